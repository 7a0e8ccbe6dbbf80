"""Checkpoints that survive a crash: safetensors and JSON, written aside, then renamed into place."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from vilex.errors import InputError

PREFIX = "step-"
JOINT = "::"


def save_checkpoint(
    folder: Path, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any], keep: int
) -> Path:
    """Write `step-NNNNNNN` below `folder`, then drop all but the newest `keep`.

    Args:
        tensors: one safetensors file for each name (encoder, optimizer, ...).
        state: plain values, kept as JSON.
    """
    path = folder / f"{PREFIX}{step:07d}"
    for left in folder.glob(f".{PREFIX}*.tmp"):  # of a run that was killed while it saved
        shutil.rmtree(left)
    aside = folder / f".{path.name}.tmp"
    aside.mkdir(parents=True)
    for name, values in tensors.items():
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in values.items()}, aside / f"{name}.safetensors"
        )
    (aside / "state.json").write_text(json.dumps({"step": step, **state}))
    os.replace(aside, path)
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints below a folder, oldest first."""
    return sorted(path for path in folder.glob(f"{PREFIX}*") if (path / "state.json").is_file())


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """What `save_checkpoint` wrote: tensors by file, and the plain state.

    Raises:
        InputError: a file of it is damaged.
    """
    try:
        state = json.loads((path / "state.json").read_text())
        return {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}, state
    except Exception as error:
        raise InputError(f"{path}: damaged checkpoint ({error}); remove it to resume from an older one") from None


def flatten_optimizer(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state by parameter name: its tensors, flat, and the rest as plain values."""
    tensors, plain = {}, {}
    for parameter, values in state["state"].items():
        for key, value in values.items():
            (tensors if isinstance(value, Tensor) else plain)[f"{parameter}{JOINT}{key}"] = value
    return tensors, {"groups": state["param_groups"], "values": plain}


def unflatten_optimizer(tensors: dict[str, Tensor], plain: dict[str, Any]) -> dict[str, Any]:
    """Undo `flatten_optimizer`."""
    state: dict[str, dict[str, Any]] = {}
    for name, value in {**tensors, **plain["values"]}.items():
        parameter, key = name.split(JOINT)
        state.setdefault(parameter, {})[key] = value
    return {"state": state, "param_groups": plain["groups"]}
