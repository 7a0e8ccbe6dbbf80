"""Where the frozen model lies: what this run trained, or else the embedded one."""

from pathlib import Path

from vilex.encoder import EMBEDDED


def frozen_model(out: Path) -> Path:
    """`out`/t2i, or the embedded model's where this run trained none; a StableDiffusionPipeline folder."""
    own = out / "t2i"
    return own if own.is_dir() else EMBEDDED["nano"] / "t2i"
