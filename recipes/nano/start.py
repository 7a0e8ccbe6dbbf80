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


def begun_encoder(out: Path) -> Path | None:
    """The encoder that ViLex goes on from: `start`'s, but where a pooler has had a head start of its own in `out`."""
    return None if (out / "pooler").is_dir() else started(out)


def t2i_images(preset: Preset, out: Path) -> int:
    """Pictures that `out`/t2i was trained on, those before `start` among them."""
    return preset.t2i.images + _shown_before(out).get("t2i_images", 0)


def encoder_images(preset: Preset, out: Path, own: bool) -> tuple[int, int]:
    """Pictures that an encoder was shown, in the pooler's head start and by ViLex.

    Args:
        own: the encoder of `out`/vilex; else that of `start`.
    """
    before, run = _shown_before(out), preset.vilex.run
    pooler, vilex = before.get("pooler_images", 0), before.get("vilex_images", 0)
    if not own:
        return pooler, vilex
    shown = run.steps * run.batch_size
    if begun_encoder(out) is not None:
        return pooler, vilex + shown
    return (pooler + preset.pooler.images, vilex + shown) if preset.pooler.go_on else (preset.pooler.images, shown)


def _shown_before(out: Path) -> dict[str, int]:
    """What the model of `start` was trained on, by what saw it; nothing where all begins from nothing."""
    folder = started(out)
    return {} if folder is None else ViLexConfig.from_pretrained(folder).training
