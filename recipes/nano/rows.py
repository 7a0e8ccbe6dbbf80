"""One row of the tables: a picture as PNG, what is said of it, and what it shows."""

import io

import numpy as np
from PIL import Image

from recipes.nano.mosaic import mosaic_words


def table_row(
    pixels: np.ndarray, captions: list[str], concepts: list[str], styles: list[str]
) -> dict[str, bytes | str | list[str]]:
    """pixels: [64, 64, 3] uint8; the other columns as `data.py` describes them."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return {
        "image": buffer.getvalue(),
        "captions": captions,
        "mosaic": " ".join(mosaic_words(pixels)),
        "concepts": concepts,
        "styles": styles,
    }
