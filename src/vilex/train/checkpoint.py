"""Checkpoints that survive a crash: safetensors and JSON, written aside, then renamed into place."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vilex.errors import InputError

PREFIX = "step-"


def save_checkpoint(
    folder: Path, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any], keep: int
) -> Path:
    """Write `step-NNNNNNN` below `folder`, then drop all but the newest `keep`.

    Args:
        tensors: one safetensors file for each name (encoder, optimizer, ...).
        state: plain values, kept as JSON.
    """
    path = folder / f"{PREFIX}{step:07d}"
    aside = folder / f".{path.name}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, values in tensors.items():
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in values.items()}, aside / f"{name}.safetensors"
        )
    (aside / "state.json").write_text(json.dumps({"step": step, **state}))
    shutil.rmtree(path, ignore_errors=True)
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


def flatten_optimizer(
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, Tensor], list[dict[str, Any]], dict[str, Any]]:
    """An optimizer's state as named tensors, its groups without parameters, and its plain values."""
    whole = optimizer.state_dict()
    tensors, plain = {}, {}
    for index, values in whole["state"].items():
        for key, value in values.items():
            (tensors if isinstance(value, Tensor) else plain)[f"{index}.{key}"] = value
    return tensors, whole["param_groups"], plain


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], groups: list[dict[str, Any]], plain: dict[str, Any]
) -> None:
    """Undo `flatten_optimizer`."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **plain}.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})
