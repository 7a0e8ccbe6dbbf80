"""One training example, out of whatever bytes and text a source holds for it."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image, UnidentifiedImageError

from vilex.errors import InputError
from vilex.pictures.load import to_rgb

CAPTION_KEYS = ("captions", "caption", "text")  # looked for after the name that the configuration gives


@dataclass(frozen=True)
class Example:
    """One image, all its captions (none for an image alone), and what it is called in its source."""

    image: Image.Image
    captions: tuple[str, ...]
    name: str


def decode_image(content: Any, name: str) -> Image.Image:
    """Encoded bytes, or Hugging Face's {bytes, path}, as RGB; `name` stands in the error.

    Raises:
        InputError: these are no bytes of a readable image.
    """
    if isinstance(content, Mapping):
        content = content.get("bytes") or _read(content.get("path"), name)
    try:
        return to_rgb(Image.open(io.BytesIO(content)), name)
    except (UnidentifiedImageError, OSError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{name}: not a readable image ({_without_address(error)})") from None


def captions_in(record: Mapping[str, Any], column: str, name: str) -> tuple[str, ...]:
    """The captions of a record (a table's row, a JSON object), a text or a list of texts.

    Raises:
        InputError: there is something else under that name.
    """
    key = next((key for key in (column, *CAPTION_KEYS) if key in record), None)
    value = record[key] if key else None
    texts = [value] if isinstance(value, str) else list(value or ()) if isinstance(value, list | tuple | None) else None
    if texts is None or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{name}: '{key}': expected a text or a list of texts, got {value!r:.60}")
    return tuple(text.strip() for text in texts if text.strip())


def captions_in_json(content: str | bytes, column: str, name: str) -> tuple[str, ...]:
    """Captions of a JSON object, or of a bare text or list; see `captions_in`."""
    try:
        record = json.loads(content)
    except ValueError as error:
        raise InputError(f"{name}: not valid JSON ({error})") from None
    return captions_in(record if isinstance(record, dict) else {column: record}, column, name)


def captions_in_text(content: str) -> tuple[str, ...]:
    """One caption a line."""
    return tuple(line.strip() for line in content.splitlines() if line.strip())


def _read(path: str | None, name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, TypeError) as error:
        raise InputError(f"{name}: no image bytes, and no file ({error})") from None


def _without_address(error: Exception) -> str:
    return str(error).split(" <_io.")[0]
