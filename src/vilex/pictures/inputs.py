"""Whatever a caller has as a picture: a path, bytes, an open file, a PIL image, an array; or as several of them."""

import glob
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from PIL import Image

from vilex.errors import InputError
from vilex.pictures.load import EXTENSIONS, decode, load_image, to_rgb

PictureLike: TypeAlias = str | PathLike[str] | bytes | IO[bytes] | Image.Image | np.ndarray[Any, Any]
FORMS = "a path, bytes, an open file, a PIL image or an array [H, W, 3]"


def open_picture(picture: PictureLike, name: str = "image", side: int | None = None) -> Image.Image:
    """A picture of any form as RGB; see `vilex.pictures.load.to_rgb`.

    Args:
        picture: a path; an encoded file's bytes, or the file, open; a PIL image; an array [H, W] or [H, W, 1, 3 or 4]
            of greys, RGB or RGBA, as `uint8`, or as floats in 0..1.
        name: stands in the error where the picture has no path. side: as in `vilex.pictures.load.load_image`.
    Raises:
        InputError: it is of another form, or holds no readable picture.
    """
    if isinstance(picture, Image.Image):
        return to_rgb(picture, name, side)
    if isinstance(picture, np.ndarray):
        return to_rgb(_from_array(picture, name), name, side)
    if isinstance(picture, bytes | bytearray | memoryview):
        return decode(io.BytesIO(picture), name, side)
    if isinstance(picture, str | PathLike):
        return load_image(Path(picture), side)
    if hasattr(picture, "read") and hasattr(picture, "seek"):
        return decode(picture, str(getattr(picture, "name", name)), side)
    raise InputError(f"{name}: expected {FORMS}, got {type(picture).__name__}")


def each_picture(pictures: PictureLike | Sequence[PictureLike]) -> Iterator[tuple[str, PictureLike]]:
    """Each of one or several pictures, and what an error calls it.

    A folder stands for the pictures in it, and a pattern (`cats/*.png`, `**` for folders at any depth) for what it
    matches, both in the order of their names; an array [B, H, W, C] for B pictures.

    Raises:
        InputError: there is none, or a folder or pattern has none.
    """
    several = one_or_several(pictures)
    if not len(several):
        raise InputError("images: expected at least one, got none")
    for i, picture in enumerate(several):
        if not isinstance(picture, str | PathLike):
            yield f"image {i}", picture
            continue
        for path in _paths(str(picture)):
            yield path, path


def one_or_several(given: Any) -> list[Any]:
    """What is given as one picture or as several, as a list; an array [B, H, W, C] is B pictures."""
    if isinstance(given, np.ndarray):
        return list(given) if given.ndim == 4 else [given]
    single = isinstance(given, str | PathLike | bytes | bytearray | memoryview | Image.Image)
    return [given] if single or hasattr(given, "read") or not isinstance(given, Iterable) else list(given)


def _paths(given: str) -> list[str]:
    """A path itself; of a folder or a pattern, the pictures it stands for."""
    if not given:
        raise InputError("images: expected a path, got an empty one; the folder one is in is .")
    if os.path.isdir(given):
        found = sorted(str(one) for one in Path(given).iterdir() if one.suffix.lower() in EXTENSIONS and one.is_file())
        if not found:
            raise InputError(
                f"{given}: a folder without pictures; give one that has some, or a pattern as {given}/**/*"
            )
        return found
    if os.path.exists(given) or not glob.has_magic(given):
        return [given]
    matches = sorted(one for one in glob.glob(given, recursive=True) if Path(one).suffix.lower() in EXTENSIONS)
    if not matches:
        raise InputError(f"{given}: matches no picture; give a path, a folder or another pattern")
    return matches


def _from_array(values: np.ndarray[Any, Any], name: str) -> Image.Image:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim != 2 and not (values.ndim == 3 and values.shape[2] in (3, 4)):
        hint = "; put channels last" if values.ndim == 3 and values.shape[0] in (1, 3, 4) else ""
        raise InputError(f"{name}: expected an array [H, W] or [H, W, 1, 3 or 4], got {list(values.shape)}{hint}")
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and values.min(initial=0) >= 0 and values.max(initial=0) <= 1):
            raise InputError(f"{name}: expected an array of finite floats in 0..1; scale it, or give uint8")
        values = (values * 255).round().astype(np.uint8)
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    if values.dtype != np.uint8:
        raise InputError(f"{name}: expected an array of uint8, or of floats in 0..1, got {values.dtype}")
    return Image.fromarray(np.ascontiguousarray(values))
