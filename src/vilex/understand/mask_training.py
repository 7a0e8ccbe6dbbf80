"""Training of a mask codec: outlines in, a codec of PaliGemma's form out.

The loss is the cross entropy of pixels, the encoder's distance to the codes it chose, and theirs to it (van den Oord
et al. 2017). A code that nobody chose for a while takes the place of a vector that is badly served.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from vilex.errors import InputError
from vilex.settings import Range
from vilex.understand.mask_codec import CODES, SIDE, CodecShape, MaskCodec

SHARPNESS = 4.0  # logits at the decoder's 1, so that it says about -1 and 1
REVIVE_EVERY = 50  # steps


@dataclass(frozen=True)
class CodecConfig:
    """How a codec is made."""

    width: Annotated[int, Range(8, 1024)] = 48  # channels of the encoder's last layer and the decoder's first
    code: Annotated[int, Range(1, 1024)] = 16
    steps: Annotated[int, Range(1, 10**7)] = 2500
    batch_size: Annotated[int, Range(1, 4096)] = 64
    lr: Annotated[float, Range(1e-7, 1)] = 2e-3
    commitment: Annotated[float, Range(0, 100)] = 0.25
    seed: int = 0


def train_codec(
    masks: Tensor, config: CodecConfig, done: Callable[[int, float], None] = lambda step, loss: None
) -> MaskCodec:
    """Train a codec; the same seed gives the same one.

    Args:
        masks: [N, 64, 64] uint8, of 0 to 255, each cut to its box. done: is told the step and its loss.
    Raises:
        InputError: they have another form.
    """
    if masks.ndim != 3 or masks.shape[1:] != (SIDE, SIDE) or masks.dtype != torch.uint8 or len(masks) < CODES // 16:
        raise InputError(f"masks: expected [N, {SIDE}, {SIDE}] of bytes, got {list(masks.shape)} {masks.dtype}")
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        widths = tuple(max(1, config.width // 2**i) for i in (3, 2, 1, 0))
        codec = MaskCodec(CodecShape(widths, config.code, config.width)).train()
    codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # half the time on a CPU
    optimizer = torch.optim.AdamW(codec.parameters(), config.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config.steps))
    used = torch.zeros(CODES)
    for step in range(config.steps):
        rows = torch.randint(len(masks), (config.batch_size,), generator=generator)
        batch = _varied(masks[rows].float() / 255, generator)
        loss, numbers, vectors = codec_loss(codec, batch, config.commitment)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        used += torch.bincount(numbers.flatten(), minlength=CODES)
        if (step + 1) % REVIVE_EVERY == 0 and step < 0.7 * config.steps:
            _revive(codec, used, vectors.flatten(0, 1), generator)
            used.zero_()
        done(step + 1, float(loss.detach()))
    codec.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return codec.eval()


def codec_loss(codec: MaskCodec, masks: Tensor, commitment: float) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of a batch, with the numbers [B, 16] and vectors [B, 16, code] on the way.

    Args:
        masks: [B, 64, 64] of 0 to 1.
    """
    vectors = codec.vectors(masks)
    numbers = codec.codes.nearest(vectors.detach())
    chosen = F.embedding(numbers, codec.codes.vectors)
    drawn = codec.decode_vectors(vectors + (chosen - vectors).detach())  # the gradient goes straight through
    pixels = F.binary_cross_entropy_with_logits(SHARPNESS * drawn, masks)
    loss = pixels + F.mse_loss(chosen, vectors.detach()) + commitment * F.mse_loss(vectors, chosen.detach())
    return loss, numbers, vectors.detach()


@torch.no_grad()
def overlap(codec: MaskCodec, masks: Tensor, batch_size: int = 256) -> float:
    """Mean intersection over union of masks, [N, 64, 64] uint8, and what comes back of their 16 numbers."""
    found = []
    for some in masks.split(batch_size):
        true = some >= 128
        back = codec.decode(codec.encode(some.float() / 255)) > 0
        found.append((true & back).sum((1, 2)) / (true | back).sum((1, 2)).clamp(min=1))
    return float(torch.cat(found).mean())


def _varied(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Half of them as if cut from a small picture, half of them mirrored."""
    side = int(torch.randint(12, SIDE + 1, (), generator=generator))
    small = F.interpolate(masks[:, None], size=(side, side), mode="bilinear", antialias=True).round()
    coarse = F.interpolate(small, size=(SIDE, SIDE), mode="bilinear")[:, 0]
    draw = torch.rand(2, len(masks), 1, 1, generator=generator)
    masks = torch.where(draw[0] < 0.5, coarse, masks)
    return torch.where(draw[1] < 0.5, masks.flip(2), masks)


@torch.no_grad()
def _revive(codec: MaskCodec, used: Tensor, vectors: Tensor, generator: torch.Generator) -> None:
    """Move codes that were not chosen to vectors of the batch, the far ones first."""
    idle = torch.nonzero(used < used.mean() * 0.02).flatten()
    if not len(idle):
        return
    distance = torch.cdist(vectors, codec.codes.vectors).min(1).values
    rows = torch.multinomial(distance.square() + 1e-9, min(len(idle), len(vectors)), generator=generator)
    codec.codes.vectors[idle[: len(rows)]] = vectors[rows]


def _rate(step: int, steps: int) -> float:
    """A short ramp up, then a half cosine to zero."""
    return min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
