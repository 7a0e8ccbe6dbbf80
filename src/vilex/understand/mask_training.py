"""Training of a mask codec: outlines in, a codec of PaliGemma's form out.

The loss is the cross entropy of pixels, the encoder's distance to the codes it chose, and theirs to it (van den Oord
et al. 2017). A code that nobody chose for a while takes the place of a vector that is badly served.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vilex.errors import InputError
from vilex.settings import Range
from vilex.train.checkpoint import flatten_optimizer, unflatten_optimizer
from vilex.understand.mask_codec import CODES, SIDE, CodecShape, MaskCodec

SHARPNESS = 4.0  # logits at the decoder's 1, so that it says about -1 and 1
REVIVE_EVERY = 50  # steps
LEAST = 8  # masks


@dataclass(frozen=True)
class CodecConfig:
    """How a codec is made."""

    width: Annotated[int, Range(8, 1024)] = 48  # channels of the encoder's last layer and the decoder's first
    code: Annotated[int, Range(1, 1024)] = 16
    steps: Annotated[int, Range(1, 10**7)] = 2500
    batch_size: Annotated[int, Range(1, 4096)] = 64
    lr: Annotated[float, Range(1e-7, 1)] = 2e-3
    commitment: Annotated[float, Range(0, 100)] = 0.25
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0


def train_codec(
    masks: Tensor, config: CodecConfig, done: Callable[[int, float], None] = lambda step, loss: None
) -> MaskCodec:
    """Train a codec; the same seed gives the same one.

    Args:
        masks: [N, 64, 64] uint8, of 0 to 255, each cut to its box. done: is told the step and its loss.
    Raises:
        InputError: they have another form.
    """
    training = CodecTraining(masks, config)
    while training.step < config.steps:
        done(training.step + 1, training.update())
    return training.codec_now()


class CodecTraining:
    """A codec in the making, and all that it takes to go on exactly where it stopped.

    Args:
        masks: [N, 64, 64] uint8, of 0 to 255, each cut to its box. device: where it learns.

    Attributes:
        step: steps done. codec: as it is by now.
    Raises:
        InputError: the masks have another form, or are fewer than eight.
    """

    def __init__(self, masks: Tensor, config: CodecConfig, device: str | torch.device = "cpu"):
        if masks.ndim != 3 or masks.shape[1:] != (SIDE, SIDE) or masks.dtype != torch.uint8:
            raise InputError(f"masks: expected [N, {SIDE}, {SIDE}] of bytes, got {list(masks.shape)} {masks.dtype}")
        if len(masks) < LEAST:
            raise InputError(f"masks: {len(masks)} of them, expected {LEAST} or more; a codec is learnt from thousands")
        self.masks, self.config, self.device, self.step = masks, config, torch.device(device), 0
        self.generator = torch.Generator().manual_seed(config.seed)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(config.seed)
            widths = tuple(max(1, config.width // 2**i) for i in (3, 2, 1, 0))
            self.codec = MaskCodec(CodecShape(widths, config.code, config.width)).train()
        self.codec.to(self.device)
        self.codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # half the time on a CPU
        self.optimizer = torch.optim.AdamW(self.codec.parameters(), config.lr, weight_decay=0.01)
        self.used = torch.zeros(CODES)

    def update(self) -> float:
        """One step; returns its loss."""
        config, codec = self.config, self.codec
        self.optimizer.param_groups[0]["lr"] = config.lr * _rate(self.step, config.steps)
        rows = torch.randint(len(self.masks), (config.batch_size,), generator=self.generator)
        batch = _varied(self.masks[rows].float() / 255, self.generator).to(self.device)
        loss, numbers, vectors = codec_loss(codec, batch, config.commitment)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.used += torch.bincount(numbers.flatten(), minlength=CODES).cpu()
        if self.step % REVIVE_EVERY == 0 and self.step - 1 < 0.7 * config.steps:
            _revive(codec, self.used, vectors.flatten(0, 1), self.generator)
            self.used.zero_()
        return float(loss.detach())

    def state(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """All that `restore` needs: tensors by file, and plain values."""
        optimizer, plain = flatten_optimizer(self.optimizer.state_dict())
        others = {"used": self.used, "generator": self.generator.get_state()}
        return {"codec": self.codec.state_dict(), "optimizer": optimizer, "others": others}, {"optimizer": plain}

    def restore(self, step: int, tensors: dict[str, dict[str, Tensor]], plain: dict[str, Any]) -> None:
        """Go on from a state after `step` steps."""
        self.codec.load_state_dict(tensors["codec"])
        state = unflatten_optimizer(tensors["optimizer"], plain["optimizer"])
        self.optimizer.load_state_dict({**state, "state": {int(key): value for key, value in state["state"].items()}})
        self.used, self.step = tensors["others"]["used"].clone(), step
        self.generator.set_state(tensors["others"]["generator"])

    def codec_now(self) -> MaskCodec:
        """The codec, on the CPU, ready to use; training is over then."""
        self.codec.to("cpu")
        self.codec.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return self.codec.eval()


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
    distance = torch.cdist(vectors, codec.codes.vectors).min(1).values.cpu()
    rows = torch.multinomial(distance.square() + 1e-9, min(len(idle), len(vectors)), generator=generator)
    codec.codes.vectors[idle[: len(rows)].to(vectors.device)] = vectors[rows.to(vectors.device)]


def _rate(step: int, steps: int) -> float:
    """A short ramp up, then a half cosine to zero."""
    return min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
