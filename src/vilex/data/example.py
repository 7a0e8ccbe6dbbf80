"""One training example, out of whatever bytes and text a source holds for it."""

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vilex.data.config import CAPTIONS
from vilex.errors import InputError
from vilex.pictures.load import decode, load_image

CAPTION_KEYS = ("captions", "caption", "text")  # what captions are called where the configuration names no column


@dataclass(frozen=True)
class CaptionedImage:
    """One image, all its captions (none for an image alone), and what it is called in its source."""

    image: Image.Image
    captions: tuple[str, ...]
    name: str


def decode_image(content: Any, name: str, roots: tuple[Path, ...] = (), side: int | None = None) -> Image.Image:
    """What a row holds for an image, as RGB: encoded bytes, the path of a file, or Hugging Face's {bytes, path}.

    Args:
        name: stands in the error.
        roots: the folders in which a row may name files, relative to the first; none may be named without them.
        side: see `vilex.pictures.load.load_image`.
    Raises:
        InputError: these are no bytes of a readable image, or the file lies elsewhere.
    """
    if isinstance(content, Mapping):
        content = content.get("bytes") or content.get("path")
    if isinstance(content, str):
        return load_image(_allowed(content, name, roots), side)
    if not isinstance(content, bytes | bytearray | memoryview):
        raise InputError(f"{name}: expected an image's bytes or path, got {type(content).__name__}")
    return decode(io.BytesIO(content), name, side)


def caption_key(names: Any, column: str) -> str | None:
    """Under which of a record's names its captions are; None if there are none.

    Args:
        column: `data.caption_column`: its default stands for the first of `CAPTION_KEYS` that is there, the empty text
            for no captions.
    Raises:
        InputError: another column than the default is named and not there.
    """
    if not column:
        return None
    keys = CAPTION_KEYS if column == CAPTIONS else (column,)
    key = next((key for key in keys if key in names), None)
    if key is None and column != CAPTIONS:
        raise InputError(f"no caption column '{column}', only {', '.join(map(str, names))}")
    return key


def captions_in(record: Mapping[str, Any], column: str, name: str) -> tuple[str, ...]:
    """The captions of a record (a table's row, a JSON object), a text or a list of texts; see `caption_key`.

    Raises:
        InputError: there is something else under that name, or not what was asked for.
    """
    try:
        key = caption_key(record, column)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    value = record[key] if key else None
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{name}: '{key}': expected a text or a list of texts, got {value!r:.60}")
    return tuple(text.strip() for text in texts if text.strip())


def captions_in_json(content: bytes, column: str, name: str) -> tuple[str, ...]:
    """Captions of a JSON object, or of a bare text or list; see `captions_in`."""
    try:
        record = json.loads(decode_text(content, name))
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, InputError) else InputError(f"{name}: not valid JSON ({error})") from None
    return captions_in(record if isinstance(record, dict) else {column: record}, column, name)


def captions_in_text(content: bytes, name: str) -> tuple[str, ...]:
    """One caption a line."""
    return tuple(line.strip() for line in decode_text(content, name).splitlines() if line.strip())


def decode_text(content: bytes, name: str) -> str:
    """Text of any editor: UTF-8 or UTF-16 by their marks, UTF-8 without, and else Latin-1 as Windows has it.

    Raises:
        InputError: these are no bytes of a text; `name` stands in the error.
    """
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    if "\0" in text:
        raise InputError(f"{name}: no text (it holds NUL); save it as UTF-8")
    return text


def _allowed(path: str, name: str, roots: tuple[Path, ...]) -> Path:
    """The file that a row names, if it lies where rows may look."""
    if not roots:
        raise InputError(f"{name}: holds the path of a file ('{path}') instead of an image; store its bytes")
    whole = Path(os.path.normpath(roots[0].absolute() / path))
    if not any(whole.is_relative_to(os.path.normpath(root.absolute())) for root in roots):
        raise InputError(f"{name}: '{path}' lies outside {roots[0]}; a row may name only files below that")
    return whole
