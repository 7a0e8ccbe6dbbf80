"""What a batch gives for the log: its loss by noise levels and by kept tokens."""

import torch
from torch import Tensor

KEPT = (1, 4, 16)  # upper ends of the bands of kept tokens; the last band is open
KEPT_NAMES = ("loss_kept_1", "loss_kept_2", "loss_kept_5", "loss_kept_17_up")
BANDS = 4  # equal shares of the noise levels, the faintest first


def of_images(seen: dict[str, Tensor], word_norm: float, levels: int) -> dict[str, Tensor]:
    """Sums and counts, [2], over the good images of a step.

    Args:
        seen: loss, t, keep and token_norm of each, [B]. word_norm: of the vocabulary's words. levels: of noise.
    """
    count = torch.tensor(float(len(seen["loss"])))
    sums = {"token_norm": seen["token_norm"].sum() / word_norm, "kept_tokens": seen["keep"].float().sum()}
    return {
        **{name: torch.stack([value, count.to(value.device)]) for name, value in sums.items()},
        **loss_by_noise(seen["loss"], seen["t"], levels),
        **loss_by_kept(seen["loss"], seen["keep"]),
    }


def loss_by_noise(losses: Tensor, t: Tensor, levels: int) -> dict[str, Tensor]:
    """Sum and count, [2], of the losses of each quarter of the noise levels.

    The faintest quarter (`loss_t0`) is about fine detail, the strongest (`loss_t3`) about what is in the
    picture at all: tokens that carry nothing leave it where it was.

    Args:
        losses: [B]. t: [B], each in 0..levels - 1; of flow models, up to `levels`.
    """
    band = (t * BANDS // levels).long().clamp_max(BANDS - 1)
    return _by_band(losses, band, tuple(f"loss_t{i}" for i in range(BANDS)))


def loss_by_kept(losses: Tensor, keep: Tensor) -> dict[str, Tensor]:
    """Sum and count, [2], of the losses of images that kept 1, 2 to 4, 5 to 16 and more tokens.

    Args:
        losses: [B]. keep: [B], at least 1.
    """
    keep = keep.to(losses.device)
    return _by_band(losses, torch.bucketize(keep, torch.tensor(KEPT, device=losses.device)), KEPT_NAMES)


def _by_band(losses: Tensor, band: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    """losses, band: [B]; nothing here waits for the device."""
    chosen = band.to(losses.device) == torch.arange(len(names), device=losses.device)[:, None]
    sums = torch.where(chosen, losses, 0).sum(1)
    return dict(zip(names, torch.stack([sums, chosen.sum(1)], dim=1), strict=True))
