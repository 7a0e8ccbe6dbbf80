"""Random weights for folders of configurations (`benchmarks.shapes`): speed and memory do not ask what was learned."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, SiglipVisionConfig, SiglipVisionModel

from vilex.encoder import ViLexEncoder
from vilex.hub.folder import fingerprint


def fill_stable_diffusion(folder: Path, dtype: torch.dtype, device: str) -> Path:
    """Weights for a Stable Diffusion 1.x or 2.x folder, drawn on `device`."""
    torch.manual_seed(0)
    with torch.device(device):
        parts = {
            "text_encoder": CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")),
            "unet": UNet2DConditionModel.from_config(json.loads((folder / "unet" / "config.json").read_text())),
            "vae": AutoencoderKL.from_config(json.loads((folder / "vae" / "config.json").read_text())),
        }
    for name, part in parts.items():
        part.to(dtype).save_pretrained(folder / name, safe_serialization=True)
    return folder


def fill_tower(folder: Path, device: str) -> Path:
    """Weights for a SigLIP tower's folder."""
    torch.manual_seed(1)
    with torch.device(device):
        tower = SiglipVisionModel(SiglipVisionConfig.from_pretrained(folder))
    tower.save_pretrained(folder, safe_serialization=True)
    return folder


def make_encoder(folder: Path, base: Path, tower: Path, width: int, num_tokens: int, blocks: int, heads: int) -> Path:
    """An encoder for `base` as `vilex train` leaves it, with a pooler that was never trained."""
    torch.manual_seed(2)
    encoder = ViLexEncoder.from_tower(
        str(tower), width=width, num_tokens=num_tokens, blocks=blocks, heads=heads, base_model=str(base),
        base_sha256=fingerprint(base),
    )  # fmt: skip
    encoder.save_pretrained(folder)
    return folder
