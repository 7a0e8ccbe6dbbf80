"""Checkpoints that survive a crash: safetensors and JSON, written aside, then renamed into place.

`state.json` lists the other files with their SHA-256, so a checkpoint is whole or is none.
"""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from vilex.errors import InputError
from vilex.hub.folder import file_hash

PREFIX = "step-"
JOINT = "::"
STATE = "state.json"
DAMAGED = ".damaged"


class Damaged(InputError):
    """A checkpoint that is not whole; the message names the file."""


def save_checkpoint(
    folder: Path, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any], keep: int
) -> Path:
    """Write `step-NNNNNNN` below `folder`, then drop all but the newest `keep`.

    Args:
        tensors: one safetensors file for each name (encoder, optimizer, ...).
        state: plain values, kept as JSON.
    Raises:
        InputError: a tensor holds what is no number. Nothing is written then.
        OSError, SafetensorError: the disk refuses. What was written of this checkpoint is gone then.
    """
    for name, values in tensors.items():
        for key, value in values.items():
            if value.is_floating_point() and not value.isfinite().all():
                raise InputError(f"step {step}: {name} holds what is no number, in {key}; it is not saved")
    path = folder / f"{PREFIX}{step:07d}"
    for left in folder.glob(f".{PREFIX}*.tmp"):  # of a run that was killed while it saved
        shutil.rmtree(left)
    aside = folder / f".{path.name}.tmp"
    try:
        aside.mkdir(parents=True)
        for name, values in tensors.items():
            plain = {key: value.detach().cpu().contiguous() for key, value in values.items()}
            save_file(plain, aside / f"{name}.safetensors")
        files = {file.name: file_hash(file) for file in sorted(aside.iterdir())}
        (aside / STATE).write_text(json.dumps({"step": step, "files": files, **state}))
        for file in aside.iterdir():
            _to_disk(file)
        os.replace(aside, path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints below a folder, oldest first."""
    found = [path for path in folder.glob(f"{PREFIX}*") if re.fullmatch(rf"{PREFIX}\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix(PREFIX)))


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """What `save_checkpoint` wrote: tensors by file, and the plain state.

    Raises:
        Damaged: a file of it is missing, cut short or changed.
    """
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        files = state["files"] if "files" in state else {file.name: "" for file in path.glob("*.safetensors")}
        if not isinstance(state.get("step"), int) or not isinstance(files, dict):
            raise ValueError("not what a run writes")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Damaged(f"{path / STATE}: damaged checkpoint ({reason})") from None
    for name, digest in files.items():
        if not (path / name).is_file():
            raise Damaged(f"{path / name}: damaged checkpoint (the file is missing)")
        if digest and file_hash(path / name) != digest:
            raise Damaged(f"{path / name}: damaged checkpoint (not the bytes that were saved)")
    try:
        return {Path(name).stem: load_file(path / name) for name in files}, state
    except Exception as error:
        raise Damaged(f"{path}: damaged checkpoint ({error})") from None


@dataclass(frozen=True)
class Checkpoint:
    """The newest whole checkpoint; `damaged` are newer ones that are not, with a line for each."""

    path: Path
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]
    damaged: dict[Path, str]


def newest_whole(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint below a folder, None if there are none at all.

    Raises:
        InputError: there are checkpoints, but none is whole.
    """
    damaged: dict[Path, str] = {}
    for path in reversed(list_checkpoints(folder)):
        try:
            tensors, state = load_checkpoint(path)
        except Damaged as error:
            damaged[path] = str(error)
        else:
            return Checkpoint(path, tensors, state, damaged)
    if damaged:
        first = next(iter(damaged.values()))
        raise InputError(f"{first}, and none before it is whole; move {folder} away to begin anew")
    return None


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it is neither resumed from nor counted; returns its new name."""
    free = path.with_name(path.name + DAMAGED)
    while free.exists():
        free = free.with_name(free.name + "-")
    return path.rename(free)


def flatten_optimizer(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state by parameter name: its tensors, flat, and the rest as plain values."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
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


def _to_disk(file: Path) -> None:
    """A rename must not reach the disk before what it renames."""
    with file.open("rb") as content:
        os.fsync(content.fileno())
