"""Stage 8, export: one folder, half precision, safetensors only; what the package ships."""

import json
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from recipes.nano.presets import Preset
from recipes.nano.start import encoder_images, t2i_images
from vilex.encoder import ViLexEncoder
from vilex.encoder.towers import load_tower
from vilex.hub.folder import fingerprint
from vilex.paths import replacing_folder

LIMIT = 64  # MB


def export(preset: Preset, out: Path) -> None:
    """Write `out`/nano: config.json and model.safetensors (encoder), t2i/ (StableDiffusionPipeline), tower/ (as it was
    before ViLex).

    Raises:
        ValueError: the folder is over 64 MB, the limit for weights inside the package.
    """
    with replacing_folder(out / "nano") as folder:
        _fill(folder, preset, out)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
        print(f"{out / 'nano'}: {size:.1f} MB")
        if size > LIMIT:
            raise ValueError(f"{out / 'nano'}: {size:.1f} MB, over the package's limit of {LIMIT} MB")


def _fill(folder: Path, preset: Preset, out: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(out / "t2i", dtype=torch.float16, safety_checker=None)
    pipeline.save_pretrained(folder / "t2i", safe_serialization=True)
    encoder = ViLexEncoder.from_pretrained(out / "vilex" / "encoder").half()
    encoder.config.version = preset.version
    encoder.config.base_model = "t2i"
    encoder.config.base_sha256 = fingerprint(folder / "t2i")
    pooler, vilex = encoder_images(preset, out, own=True)
    encoder.config.training = {
        "recipe": "recipes/nano",
        "scenes": preset.data.focus_scenes + preset.data.broad_scenes + preset.data.other_scenes,
        "photos": preset.data.photos,
        "t2i_images": t2i_images(preset, out),
        "pooler_images": pooler,
        "vilex_images": vilex,
    }
    encoder.save_pretrained(folder, safe_serialization=True)
    load_tower(str(out / "tower")).half().save_pretrained(folder / "tower", safe_serialization=True)
    forget_paths(folder)


def forget_paths(folder: Path) -> None:
    """Drop the folders of this machine that the libraries write into their configs."""
    for path in folder.rglob("*.json"):
        if path.stem == "tokenizer":
            continue  # large, and holds none
        content = json.loads(path.read_text())
        content.pop("_name_or_path", None)
        if isinstance(content.get("tower"), dict):
            content["tower"].pop("_name_or_path", None)
        path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
