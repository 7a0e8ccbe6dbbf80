"""A picture brought to another shape: cut, padded or squashed."""

from typing import Literal, get_args

from PIL import Image

Fit = Literal["crop", "pad", "squash"]
FITS: tuple[str, ...] = get_args(Fit)
PADDING = "white"  # as transparency is


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
    scale = min(image.width / width, image.height / height)
    side_x, side_y = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (image.width - side_x) // 2, (image.height - side_y) // 2
    return image.resize((width, height), Image.Resampling.BICUBIC, box=(left, top, left + side_x, top + side_y))


def square(image: Image.Image, size: int, fit: Fit = "crop") -> Image.Image:
    """An RGB picture as `size` x `size`; see `fitted`."""
    return fitted(image, size, size, fit)


def share_cut(size: tuple[int, int], width: int, height: int) -> float:
    """How much of a picture of a size is cut away where it is cropped to the shape of another, 0 to 1."""
    shape, target = size[0] / size[1], width / height
    return 1 - min(shape / target, target / shape)


def _padded(image: Image.Image, width: int, height: int) -> Image.Image:
    scale = min(width / image.width, height / image.height)
    inner_x, inner_y = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    whole = Image.new("RGB", (width, height), PADDING)
    resized = image.resize((inner_x, inner_y), Image.Resampling.BICUBIC)
    whole.paste(resized, ((width - inner_x) // 2, (height - inner_y) // 2))
    return whole
