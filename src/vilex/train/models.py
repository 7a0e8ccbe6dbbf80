"""What a run trains: the encoder, with its weights or as a shape alone."""

from pathlib import Path
from typing import Any

import torch

from vilex.encoder import ViLexConfig, ViLexEncoder
from vilex.encoder.towers import checkpoint_tower, read_tower_settings
from vilex.t2i.files import fingerprint, resolve
from vilex.t2i.stable_diffusion import StableDiffusion
from vilex.train.config import TrainConfig


def new_encoder(config: TrainConfig, width: int, base: Path) -> ViLexEncoder:
    """The encoder to train: a given one, or a pre-trained tower under a new pooler.

    Args:
        width: d of the frozen model's vocabulary. base: its folder, whose weights are recorded.
    """
    settings = config.model
    recorded = {"base_model": settings.base, "base_sha256": fingerprint(base)}
    if settings.encoder:
        encoder = ViLexEncoder.from_pretrained(resolve(settings.encoder), use_safetensors=True, dtype=torch.float32)
        encoder.config.update(recorded)
        return encoder
    return ViLexEncoder.from_tower(settings.tower, **pooler_settings(config, width), **recorded)


def encoder_shape(config: TrainConfig, width: int) -> ViLexEncoder:
    """The same encoder without weights, on the meta device; only its configuration is read."""
    settings = config.model
    if settings.encoder:
        shape = ViLexConfig.from_pretrained(resolve(settings.encoder, weights=False))
    else:
        tower = read_tower_settings(settings.tower)
        shape = ViLexConfig(tower=tower, image_size=tower.get("image_size", 224), **pooler_settings(config, width))
    with torch.device("meta"):
        return ViLexEncoder(shape)


def checkpoint_activations(t2i: StableDiffusion, encoder: ViLexEncoder) -> None:
    """Denoiser and tower compute activations again in the backward pass instead of holding them."""
    t2i.unet.enable_gradient_checkpointing()
    checkpoint_tower(encoder.tower)


def pooler_settings(config: TrainConfig, width: int) -> dict[str, Any]:
    """The pooler's part of a `ViLexConfig`; width: d of the frozen model's vocabulary."""
    settings = config.model
    return {
        "width": width,
        "num_tokens": settings.num_tokens,
        "blocks": settings.blocks,
        "heads": settings.heads,
        "mlp_ratio": settings.mlp_ratio,
    }
