"""Stage `start`, on request: go on from a model that this recipe made instead of from nothing.

Its auto-encoder stays as it is, for all that follows was trained on its codes. The text-to-image model goes on
learning, where a new one would first learn words and places; ViLex goes on from its encoder. What it was trained
on is added to what this run shows it.
"""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from recipes.nano.presets import Preset
from vilex.encoder.config import ViLexConfig
from vilex.encoder.towers import load_tower
from vilex.errors import InputError
from vilex.paths import replacing_folder


def start_from(model: Path, out: Path) -> None:
    """Lay a model where the stages look for it: `out`/start, and of its parts `out`/vae and `out`/tower.

    Args:
        model: a folder as stage `export` writes it, such as the package's own.

    Raises:
        InputError: an earlier recipe made it.
    """
    if not (model / "tower").is_dir():
        raise InputError(f"{model}: has no tower/, an earlier recipe made it; leave out start, and train anew")
    vae = AutoencoderKL.from_pretrained(model / "t2i" / "vae", dtype=torch.float32)
    with replacing_folder(out / "vae") as folder:
        vae.save_pretrained(folder, safe_serialization=True)
    with replacing_folder(out / "tower") as folder:
        load_tower(str(model / "tower")).float().save_pretrained(folder, safe_serialization=True)
    with replacing_folder(out / "start") as folder:
        shutil.copytree(model, folder)


def started(out: Path) -> Path | None:
    """The model to go on from; None where all begins from nothing."""
    folder = out / "start"
    return folder if folder.is_dir() else None


def shown_before(out: Path) -> dict[str, int]:
    """The pictures that the model had seen before this run, by what saw them: `t2i_images`, `pooler_images` (of the
    head start), `vilex_images`."""
    folder = started(out)
    training = {} if folder is None else ViLexConfig.from_pretrained(folder).training
    return {key: training.get(key, 0) for key in ("t2i_images", "pooler_images", "vilex_images")}


def head_start_images(preset: Preset, out: Path) -> int:
    """The pictures of the final encoder's head start: where it goes on from `start`'s, that one's."""
    return preset.pooler.images if started(out) is None else shown_before(out)["pooler_images"]
