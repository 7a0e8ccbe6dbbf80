"""A run's own folder: nobody else writes to it meanwhile, and nothing that lay there before is lost."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from vilex.errors import InputError

LOCK = ".vilex-run.lock"
PATIENCE = 8  # seconds to wait for the lock: data workers of a killed run hold it until they miss their parent
SECTIONS = {"model", "data", "objective", "optim", "run"}
# What a run writes.
WRITTEN = ("checkpoints", "config.json", "encoder", "log.jsonl", "samples", "skipped.jsonl", "tensorboard", "wandb",
           "wandb-id")  # fmt: skip


@contextmanager
def run_folder(out: Path, main: bool = True) -> Iterator[Path]:
    """A run's folder, made if need be, and locked until the run ends; a killed run's lock goes with it.

    Args:
        main: whether this process is the one that writes; others lock nothing.
    Raises:
        InputError: the folder cannot be written to, another run is in it, or it holds what no run has written.
    """
    if not main:
        yield out
        return
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        _refuse_strangers(out)
        lock = FileLock(out / LOCK)
        try:
            lock.acquire(timeout=PATIENCE, poll_interval=0.2)
        except Timeout:
            raise InputError(f"{out}: another run is training here; wait for it, or give another run.out") from None
    try:
        yield out
    finally:
        lock.release()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a disk's refusal into one line.

    Raises:
        InputError: a file could not be written: a full disk, a folder one may not write to.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        name = getattr(error, "filename", None) or path
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(
            f"{name}: cannot be written ({reason}); make room or give another run.out; the same command goes on "
            "from the last checkpoint"
        ) from None


def _refuse_strangers(out: Path) -> None:
    if (out / LOCK).exists() or _is_run_config(out / "config.json"):
        return
    for name in WRITTEN:
        if (out / name).exists() or (out / name).is_symlink():
            raise InputError(f"{out / name}: is there already, and no run wrote it; give another run.out")


def _is_run_config(path: Path) -> bool:
    """Whether a file is what a run writes of its settings."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.keys() >= SECTIONS
