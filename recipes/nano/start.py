"""Stage `start`, on request: go on from a model that this recipe made instead of from nothing.

Its auto-encoder stays as it is, for all that follows was trained on its codes. The text-to-image model goes on
learning, where a new one would first learn words and places; ViLex goes on from its encoder. What it was trained
on is added to what this run shows it.
"""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from vilex.encoder import EMBEDDED, ViLexEncoder
from vilex.encoder.config import ViLexConfig


def start_from(model: Path, out: Path) -> None:
    """Lay a model's parts where the stages look for them: `out`/vae, `out`/start, `out`/pooler.

    Args:
        model: a folder as stage `export` writes it, such as the package's own.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(model / "t2i", dtype=torch.float32, safety_checker=None)
    pipeline.save_pretrained(out / "start", safe_serialization=True)
    pipeline.vae.save_pretrained(out / "vae", safe_serialization=True)
    encoder = ViLexEncoder.from_pretrained(model).float()
    encoder.save_pretrained(out / "pooler", safe_serialization=True)


def start_from_shipped(out: Path) -> None:
    """`start_from` the embedded model."""
    start_from(EMBEDDED["nano"], out)


def started(out: Path) -> Path | None:
    """The text-to-image model to go on from, a StableDiffusionPipeline folder; None where all begins from nothing."""
    folder = out / "start"
    return folder if folder.is_dir() else None


def shown_before(out: Path) -> dict[str, int]:
    """The pictures that the model had seen before this run, by what saw them: `t2i_images`, `vilex_images`."""
    if started(out) is None:
        return {}
    training = ViLexConfig.from_pretrained(out / "pooler").training
    return {key: training[key] for key in ("t2i_images", "vilex_images") if key in training}
