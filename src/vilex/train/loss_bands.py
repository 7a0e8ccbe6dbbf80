"""Where a batch's loss comes from: which noise levels, and how many tokens were kept."""

from torch import Tensor

KEPT = (1, 4, 16)  # upper ends of the bands of kept tokens; the last band is open
BANDS = 4  # equal shares of the noise levels, the faintest first


def loss_by_noise(losses: Tensor, t: Tensor, levels: int) -> dict[str, float]:
    """Mean loss of each quarter of the noise levels that the batch met.

    The faintest quarter (`loss_t0`) is about fine detail, the strongest (`loss_t3`) about what is in the
    picture at all: tokens that carry nothing leave it where it was.

    Args:
        losses: [B]. t: [B], each in 0..levels - 1.
    """
    band = t * BANDS // levels
    return {f"loss_t{i}": losses[band == i].mean().item() for i in sorted(set(band.tolist()))}


def loss_by_kept(losses: Tensor, keep: Tensor) -> dict[str, float]:
    """Mean loss of the images that kept 1, 2 to 4, 5 to 16 and more tokens, as far as the batch has them.

    Args:
        losses: [B]. keep: [B], at least 1.
    """
    lows = (1, *(high + 1 for high in KEPT))
    highs = (*KEPT, int(keep.max()))
    values = {}
    for low, high in zip(lows, highs, strict=True):
        chosen = (keep >= low) & (keep <= high)
        if chosen.any():
            values[f"loss_kept_{low}" + ("_up" if low > KEPT[-1] else "")] = (
                losses[chosen.to(losses.device)].mean().item()
            )
    return values
