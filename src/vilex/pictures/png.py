"""Pictures out: PNGs that carry the settings they were made with."""

import io
import json
from collections.abc import Mapping
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

import vilex

CHUNK = "vilex"  # the text chunk that holds the settings, as JSON


def to_png(image: Image.Image, settings: Mapping[str, Any], scale: int = 1) -> bytes:
    """A picture as the bytes of a PNG, `scale` times larger (Lanczos), with its settings as text metadata."""
    if scale > 1:
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.LANCZOS)
    text, content = PngInfo(), io.BytesIO()
    text.add_text("Software", f"vilex {vilex.__version__}")
    text.add_itxt(CHUNK, utf8(json.dumps(dict(settings), ensure_ascii=False)).decode())
    image.save(content, "PNG", pnginfo=text)
    return content.getvalue()


def utf8(text: str) -> bytes:
    """JSON as UTF-8; what names of files hold that is none becomes JSON's own escapes, `\\udce9`."""
    return text.encode("utf-8", "backslashreplace")
