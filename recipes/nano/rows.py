"""One row of the tables: a picture as PNG, its captions, and what it shows."""

import io

import numpy as np
from PIL import Image


def table_row(
    pixels: np.ndarray, captions: list[str], dense: list[str], concepts: list[str], styles: list[str]
) -> dict[str, bytes | list[str]]:
    """pixels: [64, 64, 3] uint8; the other columns as `data.py` describes them."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return {
        "image": buffer.getvalue(),
        "captions": captions,
        "dense": dense,
        "concepts": concepts,
        "styles": styles,
    }
