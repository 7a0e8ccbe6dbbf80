"""At which of several sizes a picture is drawn, what of it each model sees, and pictures of several sizes together."""

import math
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from vilex.pictures.fit import Fit, cropped, fitted

Size = tuple[int, int]  # width, height


def nearest_size(size: Size, sizes: Sequence[Size]) -> Size:
    """The first of those sizes whose shape is nearest to a picture's."""
    shape = math.log(size[0] / size[1])
    return min(sizes, key=lambda one: abs(math.log(one[0] / one[1]) - shape))


def drawn_and_seen(image: Image.Image, sizes: Sequence[Size], fit: Fit) -> tuple[Image.Image, Image.Image]:
    """A picture as the frozen model draws it, of one of the sizes, and what of it the tower is shown.

    Of several sizes the one of the nearest shape, and what is over is cut off for both. Of one size, by `fit`.
    """
    width, height = nearest_size(image.size, sizes)
    bucketed = len(sizes) > 1
    drawn = fitted(image, width, height, "crop" if bucketed else fit)
    if (fit == "crop" and width == height) or (fit != "crop" and not bucketed):
        return drawn, image  # the tower's own fit brings it to the very same
    return drawn, cropped(image, width, height)


def together(pixels: Sequence[Tensor]) -> tuple[Tensor, tuple[Size, ...]]:
    """Pictures [3, h, w] as one tensor [B, 3, H, W], the smaller ones in its upper left, and each one's size.

    No sizes where they are all the same.
    """
    sizes = tuple((one.shape[2], one.shape[1]) for one in pixels)
    if len(set(sizes)) == 1:
        return torch.stack(list(pixels)), ()
    whole = pixels[0].new_zeros(len(pixels), 3, max(height for _, height in sizes), max(width for width, _ in sizes))
    for row, one, (width, height) in zip(whole, pixels, sizes, strict=True):
        row[:, :height, :width] = one
    return whole, sizes


def rows_by_size(sizes: Sequence[Size]) -> dict[Size, list[int]]:
    """The places of the pictures of each size, in the order in which sizes first come."""
    rows: dict[Size, list[int]] = {}
    for row, size in enumerate(sizes):
        rows.setdefault(size, []).append(row)
    return rows
