"""A mask codec trained into a folder, and gone on with after a stop.

OUT/config.json, model.safetensors   the codec, once it is finished: what `load_codec` reads
OUT/checkpoints                      until then
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from torch import Tensor

from vilex.errors import InputError
from vilex.train.checkpoint import newest_whole, save_checkpoint, set_aside
from vilex.train.signals import StopSignal
from vilex.understand.mask_codec import load_codec
from vilex.understand.mask_training import CodecConfig, CodecTraining, overlap

CHECKPOINTS, LOCK = "checkpoints", ".vilex-masks.lock"
PATIENCE = 2  # seconds to wait for another process to leave the folder


def train_into(
    out: Path,
    learnt: Tensor,
    tested: Tensor,
    config: CodecConfig,
    device: str | torch.device = "cpu",
    save_every: int = 500,
    done: Callable[[int, int], None] = lambda step, steps: None,
) -> dict[str, Any]:
    """Train a codec to its end, or go on, and write it.

    SIGINT and SIGTERM end the training after the step in hand, with a checkpoint; the same call goes on.

    Args:
        out: the folder. learnt, tested: [N, 64, 64] uint8, each cut to its box. save_every: steps.
        done: is told the step, and of how many.
    Returns:
        What is kept of it in `config.json`, beside its shape.
    Raises:
        InputError: the folder cannot be written, is in use, or holds a training of other masks or settings; the
            training was asked to stop, or its loss is no number.
    """
    with _writing(out), _alone(out):
        training = CodecTraining(learnt, config, device)
        about = {"config": asdict(config), "masks_sha256": _digest(learnt)}
        _resume(training, out, about)
        with StopSignal() as stop:
            while training.step < config.steps and not stop.asked:
                loss = training.update()
                if not loss < float("inf"):
                    raise InputError(f"step {training.step}: the loss is no number; lower --lr")
                done(training.step, config.steps)
                if training.step % save_every == 0:
                    _save(training, out, about)
        if training.step < config.steps:
            _save(training, out, about)
            raise InputError(f"stopped at step {training.step} of {config.steps}; the same command goes on from there")
        return _finish(training, out, tested)


def _finish(training: CodecTraining, out: Path, tested: Tensor) -> dict[str, Any]:
    """Write the codec, measured as it will be read, in half precision."""
    codec = training.codec_now()
    codec.save(out)
    found = overlap(load_codec(out), tested)
    about = {
        "held_out_overlap": round(found, 4),
        "held_out_outlines": len(tested),
        "outlines": len(training.masks),
        "made_by": "vilex understand masks",
        "training": asdict(training.config),
    }
    codec.save(out, **about)
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    return about


def _save(training: CodecTraining, out: Path, about: dict[str, Any]) -> None:
    tensors, plain = training.state()
    save_checkpoint(out / CHECKPOINTS, training.step, tensors, {**plain, "about": about}, keep=1)


def _resume(training: CodecTraining, out: Path, about: dict[str, Any]) -> None:
    found = newest_whole(out / CHECKPOINTS)
    if found is None:
        return
    before, now = found.state.get("about", {}), json.loads(json.dumps(about))
    if before.get("masks_sha256") != now["masks_sha256"]:
        raise InputError(f"{out}: holds a training on other masks; give another folder with -o, or the same masks")
    for key, value in now["config"].items():
        if (was := before.get("config", {}).get(key)) != value:
            raise InputError(
                f"{out}: holds a training with {key} = {was!r}, not {value!r}; give another folder with -o, or the "
                "same settings to go on"
            )
    for path in found.damaged:
        set_aside(path)
    training.restore(found.state["step"], found.tensors, found.state)


def _digest(masks: Tensor) -> str:
    return hashlib.sha256(masks.numpy().tobytes()).hexdigest()


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    lock = FileLock(out / LOCK)
    try:
        lock.acquire(timeout=PATIENCE, poll_interval=0.2)
    except Timeout:
        raise InputError(
            f"{out}: another codec is being trained here; wait for it, or give another folder with -o"
        ) from None
    try:
        yield
    finally:
        (out / LOCK).unlink(missing_ok=True)
        lock.release()


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turn a disk's refusal into one line."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, SafetensorError) as error:
        name, reason = getattr(error, "filename", None) or out, getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be written ({reason}); make room, or give another folder with -o") from None
