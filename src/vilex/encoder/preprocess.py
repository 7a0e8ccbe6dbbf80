"""Pictures to a tower's input: on the CPU, small and picklable, so that data workers of any kind can hold it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vilex.pictures.fit import Fit, square


def square_by(fit: Fit) -> Callable[[Image.Image, int], Image.Image]:
    """What brings a picture to a square in one of the three ways."""
    return square if fit == "crop" else partial(square, fit=fit)


@dataclass(frozen=True)
class Preprocess:
    """RGB pictures of any size to [B, 3, S, S] in float32: fitted to a square, then normalised.

    Attributes:
        size: S, pixels a side. mean, std: of RGB in 0..1, a channel each.
        fit: makes a picture S x S; a centre crop and bicubic by default. One that has a pickle, see `square_by`.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: Callable[[Image.Image, int], Image.Image] = square

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        pixels = np.stack([np.asarray(self.fit(image, self.size)) for image in images])
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (x - mean) / std
