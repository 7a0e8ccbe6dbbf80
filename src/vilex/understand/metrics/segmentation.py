"""Overlap of masks, each under its own name.

mIoU   the mean over expressions of intersection / union: big_vision's and the paper's number on RefCOCO
cIoU   the sum of intersections / the sum of unions: the referring literature's "overall IoU", led by large things
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vilex.errors import InputError

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class MaskScore:
    """Shares from 0 to 1: both overlaps, and predictions that are no mask (they count as empty)."""

    miou: float
    ciou: float
    invalid: float


def segmentation_score(pairs: Iterable[tuple[Mask | None, Mask]]) -> MaskScore:
    """Score masks against true ones, at the true ones' size.

    Args:
        pairs: the predicted mask, None if there is none, and the true one, both [H, W] bool.
    Raises:
        InputError: a pair differs in shape, a true mask is empty, or there are no pairs.
    """
    overlaps, common, covered, invalid = [], 0, 0, 0
    for i, (predicted, true) in enumerate(pairs):
        if not true.any():
            raise InputError(f"mask {i}: the true one is empty; leave the example out")
        invalid += predicted is None
        if predicted is None:
            predicted = np.zeros_like(true)
        if predicted.shape != true.shape:
            raise InputError(f"mask {i}: predicted {predicted.shape}, true {true.shape}; give both one size")
        intersection, union = int((predicted & true).sum()), int((predicted | true).sum())
        overlaps.append(intersection / union)
        common += intersection
        covered += union
    if not overlaps:
        raise InputError("masks: expected at least one, got none")
    return MaskScore(float(np.mean(overlaps)), common / covered, invalid / len(overlaps))
