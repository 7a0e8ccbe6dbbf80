"""Pictures in: any file a user has to a plain RGB image, or one clear line that says why not."""

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vilex.errors import InputError

MAX_PIXELS = 64 * 1024 * 1024
MIN_SIDE = 2
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})


def load_image(path: str | Path) -> Image.Image:
    """Read a picture as RGB: first frame, EXIF rotation applied, transparency laid on white.

    16-bit and floating-point greys are scaled to 8 bits, CMYK is converted.

    Raises:
        InputError: the file is missing, empty, truncated, no image, too small or too large.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of an image")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; give an image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return to_rgb(image, str(path))
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{path}: not an image Pillow can read; convert it to PNG or JPEG") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: over {MAX_PIXELS} pixels; resize it first") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path}: damaged image ({error}); save it again") from None


def to_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """An opened image as RGB; see `load_image`. `name` stands in the error.

    Raises:
        InputError: a side is under 2 pixels, or the whole over `MAX_PIXELS`.
    """
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{name}: {width}x{height} pixels is too small; give at least {MIN_SIDE}x{MIN_SIDE}")
    if width * height > MAX_PIXELS:
        raise InputError(f"{name}: {width}x{height} is over {MAX_PIXELS} pixels; resize it first")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_eight_bits(image)
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def square(image: Image.Image, size: int) -> Image.Image:
    """Centre crop to a square, then bicubic to `size` x `size`."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def load_each(paths: Iterable[str | Path]) -> tuple[dict[Path, Image.Image], list[str]]:
    """Read a list of pictures; the good ones by path, and a line for each bad one."""
    good, bad = {}, []
    for path in paths:
        try:
            good[Path(path)] = load_image(path)
        except InputError as error:
            bad.append(str(error))
    return good, bad


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit greys by their full range; 32-bit and float ones by their own."""
    pixels = np.asarray(image, dtype=np.float64)
    sixteen_bits = image.mode != "F" and pixels.min() >= 0 and pixels.max() <= 65535
    low, high = (0.0, 65535.0) if sixteen_bits else (pixels.min(), pixels.max())
    scaled = (pixels - low) / max(high - low, 1e-12) * 255
    return Image.fromarray(scaled.round().astype(np.uint8), "L")
