"""The frozen text-to-image model's latents as patches: Table 4's row that ViLex must beat.

The paper does not say how they are cut. Here the picture is brought to the size at which k x k latents make as many
patches as the tower has, for the smallest k whose picture is no smaller than the tower's: for SigLIP at 224 pixels
and Stable Diffusion, 256 pixels, 32 x 32 x 4 latents, k = 2 and 256 patches of 16 numbers.
"""

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional as F

from vilex.encoder.preprocess import Preprocess
from vilex.errors import InputError
from vilex.hub.folder import as_configured, check_safetensors, check_whole, is_inside, read_json, resolve, resolve_base
from vilex.hub.loading import quiet_loading
from vilex.understand.views import squash

HALF = (0.5, 0.5, 0.5)
AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")


class LatentPatches:
    """An auto-encoder's latents of pictures, k x k of them a patch.

    Args:
        vae: an auto-encoder of diffusers with four-dimensional latents. side: patches a side, as the tower has.
        pixels: the tower's picture size, which this one's is no less than.
    """

    def __init__(self, vae: Any, side: int, pixels: int):
        self.vae = vae.requires_grad_(False).eval()
        scale = 2 ** (len(vae.config.block_out_channels) - 1)
        self.fold = next(k for k in range(1, pixels + 1) if side * k * scale >= pixels)
        self.count, self.width = side**2, vae.config.latent_channels * self.fold**2
        self.preprocess = Preprocess(side * self.fold * scale, HALF, HALF, squash)

    def __call__(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] in -1..1 -> [B, side^2, channels k^2], scaled as the denoiser sees them."""
        encoded = self.vae.encode(pixels)
        latents = encoded.latents if isinstance(self.vae, AutoencoderTiny) else encoded.latent_dist.mode()
        config = self.vae.config
        latents = (latents - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor
        return F.pixel_unshuffle(latents, self.fold).flatten(2).transpose(1, 2)


def load_vae(base: str | None, encoder: str = "") -> Any:
    """A text-to-image model's auto-encoder alone.

    Args:
        base: the model's folder or hub id; None for that of the ViLex encoder `encoder`.
    Raises:
        InputError: there is none, or it is damaged.
    """
    folder = _folder_with_vae(base, encoder)
    return load_autoencoder(folder)


def vae_shape(base: str | None, encoder: str = "") -> Any:
    """The same without weights, on the meta device; only its configuration is read."""
    folder = _folder_with_vae(base, encoder, weights=False)
    settings = read_json(folder / "vae" / "config.json")
    with as_configured(folder / "vae"), torch.device("meta"):
        return _autoencoder(settings.get("_class_name"), folder / "vae").from_config(settings)


def _folder_with_vae(base: str | None, encoder: str, weights: bool = True) -> Path:
    folder = _base_folder(base, encoder, weights)
    named = read_json(folder / "model_index.json").get("vae") if (folder / "model_index.json").is_file() else None
    kind = named[1] if isinstance(named, list) and len(named) == 2 else None
    if kind not in AUTOENCODERS:
        raise InputError(
            f"{folder}: has no auto-encoder of latents (vae is {kind}); name another model as features.vae"
        )
    return folder


def load_autoencoder(folder: Path) -> Any:
    """The auto-encoder in `folder`/vae, by its own config.json; see `load_vae` for what raises."""
    folder = folder / "vae"
    kind = _autoencoder(read_json(folder / "config.json").get("_class_name"), folder)
    check_safetensors(folder)
    with quiet_loading(), as_configured(folder):
        vae, about = kind.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True)
    check_whole(folder, vae, about)
    return vae


def _autoencoder(kind: Any, folder: Path) -> Any:
    """The class of an auto-encoder."""
    if kind not in AUTOENCODERS:
        raise InputError(f"{folder}: a {kind}; expected {' or '.join(AUTOENCODERS)}")
    return getattr(diffusers, kind)


def _base_folder(base: str | None, encoder: str, weights: bool) -> Path:
    if base:
        return resolve_base(base, weights)
    folder = resolve(encoder, weights)
    own = read_json(folder / "config.json").get("base_model")
    if not isinstance(own, str) or not own:
        raise InputError(f"{encoder}: names no text-to-image model; name one as features.vae")
    return folder / own if is_inside(folder, own) else resolve_base(own, weights)
