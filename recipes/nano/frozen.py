"""Where the frozen model lies: what this run trained, else what it began with, else the embedded one."""

from pathlib import Path

from recipes.nano.start import started
from vilex.encoder import EMBEDDED


def frozen_model(out: Path) -> Path:
    """A StableDiffusionPipeline folder: `out`/t2i; where this run trained none, that of `start` or the embedded one."""
    own = out / "t2i"
    return own if own.is_dir() else (started(out) or EMBEDDED["nano"]) / "t2i"
