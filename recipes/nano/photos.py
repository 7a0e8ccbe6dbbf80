"""Photographs (research use only): Tiny-ImageNet's with truthful captions, and others' for the tower's eyes alone."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet
from PIL import Image, ImageOps

from recipes.nano.rows import table_row
from recipes.nano.scenes import SIZE


def photo_rows(tables: list[Path], count: int, rng: np.random.Generator) -> list[dict]:
    """The first `count` photographs as rows of the scene tables; their style is `photo`."""
    rows: list[dict] = []
    for table in tables:
        for photo in pyarrow.parquet.read_table(table).slice(0, count - len(rows)).to_pylist():
            pixels = np.asarray(Image.open(io.BytesIO(photo["image"])).convert("RGB"))
            if pixels.shape != (SIZE, SIZE, 3):
                raise ValueError(f"{table}: expected {SIZE}x{SIZE} photographs, got {pixels.shape}")
            rows.append(
                table_row(
                    pixels,
                    captions=photo_captions(photo, rng),
                    concepts=[photo["name"]],
                    styles=["photo"],
                )
            )
    return rows


def bare_photos(tables: list[Path], count: int, more: Path | None = None) -> Iterator[dict[str, bytes]]:
    """The first `count` photographs of some tables and all of one more, middle squares as PNG, 64 x 64."""
    for table in tables:
        images = pyarrow.parquet.read_table(table, columns=["image"])["image"].slice(0, count)
        count -= len(images)
        yield from ({"image": _square(cell.as_py())} for cell in images)
    if more is not None:
        yield from (
            {"image": _square(cell.as_py())} for cell in pyarrow.parquet.read_table(more, columns=["image"])["image"]
        )


def _square(content: bytes) -> bytes:
    picture = ImageOps.fit(Image.open(io.BytesIO(content)).convert("RGB"), (SIZE, SIZE), Image.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def photo_captions(photo: dict, rng: np.random.Generator) -> list[str]:
    """The bare class, and a sentence with size and place read off the box."""
    name, (x0, y0, x1, y1) = photo["name"].lower(), photo["box"]
    article = "an" if name[0] in "aeiou" else "a"
    kind = "a black and white photo" if photo["grey"] else rng.choice(["a photo", "a photograph"])
    share = (x1 - x0) * (y1 - y0) / SIZE**2
    size = "close-up of " if share > 0.7 else "small " if share < 0.15 else ""
    noun = f"{size}{article} {name}" if size.startswith("close") else f"{article} {size}{name}"
    return [f"{kind} of {article} {name}", f"{kind} of {noun}{_place((x0 + x1) / 2, (y0 + y1) / 2)}"]


def _place(x: float, y: float) -> str:
    vertical = "top" if y < SIZE * 0.4 else "bottom" if y > SIZE * 0.6 else ""
    horizontal = "left" if x < SIZE * 0.4 else "right" if x > SIZE * 0.6 else ""
    return f" at the {vertical} {horizontal}".replace("  ", " ").rstrip() if vertical or horizontal else ""
