"""A picture brought to another shape: cut, padded or squashed."""

import warnings
from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

from PIL import Image

from vilex.errors import InputError, printable

Fit = Literal["crop", "pad", "squash"]
FITS: tuple[str, ...] = get_args(Fit)
PADDING = "white"  # as transparency is
MUCH = 1 / 3  # of a picture: who cuts away more is told


class FitWarning(UserWarning):
    """Much of a picture is cut away."""


def check_fit(value: Any, name: str = "fit") -> Fit:
    """One of the three ways.

    Raises:
        InputError: it is none; the line begins with `name`.
    """
    if value not in FITS:
        raise InputError(f"{name}: expected {', '.join(FITS[:-1])} or {FITS[-1]}, got {value!r:.60}")
    return cast(Fit, value)


def fitted(image: Image.Image, width: int, height: int, fit: Fit = "crop") -> Image.Image:
    """An RGB picture as `width` x `height`, bicubic.

    Args:
        fit: what is done where the shape is another: `crop` cuts to the middle, `pad` adds white on both sides,
            `squash` stretches.
    """
    if fit == "squash":
        return image.resize((width, height), Image.Resampling.BICUBIC)
    if fit == "pad":
        return _padded(image, width, height)
    return image.resize((width, height), Image.Resampling.BICUBIC, box=_middle(image, width, height))


def cropped(image: Image.Image, width: int, height: int) -> Image.Image:
    """A picture cut to the middle of the shape of `width` x `height`, of as many pixels as it has there."""
    return image.crop(_middle(image, width, height))


def square(image: Image.Image, size: int, fit: Fit = "crop") -> Image.Image:
    """An RGB picture as `size` x `size`; see `fitted`."""
    return fitted(image, size, size, fit)


def share_cut(size: tuple[int, int], width: int, height: int) -> float:
    """How much of a picture of a size is cut away where it is cropped to the shape of another, 0 to 1."""
    shape, target = size[0] / size[1], width / height
    return 1 - min(shape / target, target / shape)


def much_cut(size: tuple[int, int], fit: Fit) -> bool:
    """Whether a picture of a size loses more than a third where it is brought to a square."""
    return fit == "crop" and share_cut(size, 1, 1) > MUCH


def warn_of_cuts(cut: Sequence[str], count: int) -> None:
    """One warning for those of `count` pictures that lose more than a third, by their names; none without such."""
    if cut:
        which = f"{cut[0]}: " if count == 1 else f"{len(cut)} of {count} pictures, {cut[0]} the first: "
        line = f"{which}more than a third is cut away around the middle square; fit pad or squash keeps all of it"
        warnings.warn(printable(line), FitWarning, 3)


def _middle(image: Image.Image, width: int, height: int) -> tuple[int, int, int, int]:
    """The largest box of a shape in the middle of a picture."""
    scale = min(image.width / width, image.height / height)
    side_x, side_y = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (image.width - side_x) // 2, (image.height - side_y) // 2
    return left, top, left + side_x, top + side_y


def _padded(image: Image.Image, width: int, height: int) -> Image.Image:
    scale = min(width / image.width, height / image.height)
    inner_x, inner_y = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    whole = Image.new("RGB", (width, height), PADDING)
    resized = image.resize((inner_x, inner_y), Image.Resampling.BICUBIC)
    whole.paste(resized, ((width - inner_x) // 2, (height - inner_y) // 2))
    return whole
