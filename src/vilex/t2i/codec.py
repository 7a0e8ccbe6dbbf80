"""Between pixels and x0: what families' auto-encoders give, and how its numbers are brought near mean 0, spread 1.

ScaledLatents        x0 = (z - shift) scale                               Stable Diffusion, FLUX.1, Sana, ...
PerChannelLatents    x0 = (z - mean_c) / deviation_c, z of one frame      Qwen-Image
BatchNormLatents     x0 = (p - mean_c) / sqrt(variance_c + eps)           FLUX.2; p: z's squares of 2 x 2 as channels
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

PIXELS_AT_ONCE = 2**21  # through an auto-encoder, whose activations are some gigabytes for a megapixel


class LatentCodec(ABC):
    """An auto-encoder as `encode` and `decode`; some pictures at a time, see `PIXELS_AT_ONCE`.

    Args:
        vae: a diffusers auto-encoder. A picture's code is its distribution's mode.
    """

    def __init__(self, vae: Any):
        self.vae = vae

    @property
    def compression(self) -> int:
        """Pixels a side of one place of x0."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @abstractmethod
    def normalised(self, latents: Tensor) -> Tensor:
        """The auto-encoder's own latents -> x0 [B, c, h, w]."""

    @abstractmethod
    def restored(self, x0: Tensor) -> Tensor:
        """x0 [B, c, h, w] -> the auto-encoder's own latents."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in -1..1 -> x0 [B, c, h, w]."""
        parts = pixels.to(self.vae.dtype).split(_at_once(pixels.shape[-2] * pixels.shape[-1]))
        return self.normalised(torch.cat([self._latents(part) for part in parts]))

    def decode(self, x0: Tensor) -> Tensor:
        """x0 [B, c, h, w] -> pixels [B, 3, H, W], about -1..1."""
        parts = self.restored(x0).to(self.vae.dtype).split(_at_once(x0[0, 0].numel() * self.compression**2))
        return torch.cat([self._pixels(part) for part in parts])

    def _latents(self, pixels: Tensor) -> Tensor:
        encoded = self.vae.encode(pixels)
        if hasattr(encoded, "latent_dist"):
            return encoded.latent_dist.mode()
        return encoded.latents if hasattr(encoded, "latents") else encoded.latent

    def _pixels(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents, return_dict=False)[0]


class ScaledLatents(LatentCodec):
    """One shift, one scale."""

    def normalised(self, latents: Tensor) -> Tensor:
        return (latents - self._shift) * self.vae.config.scaling_factor

    def restored(self, x0: Tensor) -> Tensor:
        return x0 / self.vae.config.scaling_factor + self._shift

    @property
    def _shift(self) -> float:
        return getattr(self.vae.config, "shift_factor", None) or 0.0


class DeepCompression(ScaledLatents):
    """Of an AutoencoderDC: 32 pixels a side of a place."""

    @property
    def compression(self) -> int:
        return self.vae.spatial_compression_ratio


class PerChannelLatents(LatentCodec):
    """Mean and deviation of every channel; the auto-encoder is one of films, a picture a film of one frame."""

    @property
    def compression(self) -> int:
        return self.vae.spatial_compression_ratio

    def normalised(self, latents: Tensor) -> Tensor:
        mean, deviation = self._statistics(latents)
        return ((latents - mean) / deviation).squeeze(2)

    def restored(self, x0: Tensor) -> Tensor:
        latents = x0.unsqueeze(2)
        mean, deviation = self._statistics(latents)
        return latents * deviation + mean

    def _latents(self, pixels: Tensor) -> Tensor:
        return super()._latents(pixels.unsqueeze(2))

    def _pixels(self, latents: Tensor) -> Tensor:
        return super()._pixels(latents)[:, :, 0]

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        mean, deviation = (
            torch.tensor(values, dtype=torch.float32, device=like.device).view(1, -1, 1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        return mean, deviation


class BatchNormLatents(LatentCodec):
    """Squares of 2 x 2 latents as one place, by the running statistics of a batch norm."""

    @property
    def compression(self) -> int:
        return 2 * super().compression

    def normalised(self, latents: Tensor) -> Tensor:
        mean, deviation = self._statistics(latents)
        return (patchify(latents) - mean) / deviation

    def restored(self, x0: Tensor) -> Tensor:
        mean, deviation = self._statistics(x0)
        return unpatchify(x0 * deviation + mean)

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        norm, eps = self.vae.bn, self.vae.config.batch_norm_eps
        mean, variance = norm.running_mean.to(like), norm.running_var.to(like)
        return mean.view(1, -1, 1, 1), (variance + eps).sqrt().view(1, -1, 1, 1)


def patchify(x: Tensor) -> Tensor:
    """Squares of 2 x 2 places as channels: [B, c, 2 h, 2 w] -> [B, 4 c, h, w]."""
    return torch.nn.functional.pixel_unshuffle(x, 2)


def unpatchify(x: Tensor) -> Tensor:
    """What `patchify` did, undone."""
    return torch.nn.functional.pixel_shuffle(x, 2)


def _at_once(pixels: int) -> int:
    """How many pictures of so many pixels go through an auto-encoder together."""
    return max(1, PIXELS_AT_ONCE // pixels)
