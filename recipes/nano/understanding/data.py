"""The benchmark's tables: scenes and clips with their questions, in three splits.

    scenes-train.parquet       drawings that the encoder trained on, too
    scenes-validation.parquet  each with a drawing that no stage of the default model ever saw; sweeps choose on these
    scenes-test.parquet        the same with other drawings: of every concept's held-out ones, those of test are never
                               those of validation
    clips-*.parquet            the same splits, `FRAMES` frames each

Columns: `images` (PNG, one a frame), `questions` (kind, prefix, suffix, thing) and `masks` (PNG of one bit, one a
thing). A table that is there is kept.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image

from recipes.nano.sprites import CONCEPTS, Sprite, load_sprites, select
from recipes.nano.understanding.clips import random_clip
from recipes.nano.understanding.questions import Question, questions_of
from recipes.nano.understanding.scenes import random_wide_scene

SPLITS = ("train", "validation", "test")
QUESTION = pa.struct([("kind", pa.string()), ("prefix", pa.string()), ("suffix", pa.string()), ("thing", pa.int32())])
SCHEMA = pa.schema(
    [("images", pa.list_(pa.binary())), ("questions", pa.list_(QUESTION)), ("masks", pa.list_(pa.binary()))]
)


@dataclass(frozen=True)
class Sizes:
    """Rows of each table."""

    scenes: int = 12_000
    clips: int = 4_000
    tested_scenes: int = 1_500  # of validation and of test, each
    tested_clips: int = 500


def compose_benchmark(emoji: Path, out: Path, sizes: Sizes = Sizes()) -> None:
    """Write the six tables to `out`; the same sizes give the same pictures and words."""
    sprites = load_sprites(emoji)
    words = sorted({sprite.word for sprite in select(sprites, CONCEPTS, held_out=False)})
    makers: dict[str, Callable[..., dict[str, Any]]] = {"scenes": _scene_row, "clips": _clip_row}
    for seed, split in enumerate(SPLITS):
        drawings = drawings_of(sprites, split)
        partners = drawings if split == "train" else select(sprites, CONCEPTS, held_out=False)
        for kind, make in makers.items():
            path = out / f"{kind}-{split}.parquet"
            count = getattr(sizes, kind if split == "train" else f"tested_{kind}")
            if not path.is_file():
                rng = np.random.default_rng((seed, kind == "clips", count))
                about = None if split == "train" else 0  # questions of the other splits are about the held-out drawing
                rows = [make(partners, drawings[i % len(drawings)], rng, words, about) for i in range(count)]
                _write(rows, path)


def drawings_of(sprites: list[Sprite], split: str) -> list[Sprite]:
    """The drawings that each scene of a split has one of: seen ones, or half of the held-out ones by their hash."""
    if split == "train":
        return select(sprites, CONCEPTS, held_out=False)
    odd = split == "test"
    return [sprite for sprite in select(sprites, CONCEPTS, held_out=True) if _digest(sprite) % 2 == odd]


def read_rows(path: Path) -> Iterator[tuple[list[Image.Image], list[Question], list[np.ndarray]]]:
    """Frames, questions and masks [SIDE, SIDE] bool of each row of a table."""
    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=256):
        for row in batch.to_pylist():
            frames = [Image.open(io.BytesIO(content)).convert("RGB") for content in row["images"]]
            masks = [np.asarray(Image.open(io.BytesIO(content))) for content in row["masks"]]
            yield frames, [Question(**question) for question in row["questions"]], masks


def _scene_row(
    sprites: list[Sprite], first: Sprite, rng: np.random.Generator, words: list[str], about: int | None
) -> dict[str, Any]:
    scene = random_wide_scene(sprites, rng, first)
    masks = [Image.fromarray(scene.mask(thing)) for thing in scene.things]
    questions = questions_of(scene, rng, words, about)
    return {
        "images": [png_bytes(scene.render())],
        "questions": [*map(asdict, questions)],
        "masks": [*map(png_bytes, masks)],
    }


def _clip_row(
    sprites: list[Sprite], first: Sprite, rng: np.random.Generator, words: list[str], about: int | None
) -> dict[str, Any]:
    clip = random_clip(sprites, rng, first, about)
    return {"images": [*map(png_bytes, clip.render())], "questions": [*map(asdict, clip.questions())], "masks": []}


def _digest(sprite: Sprite) -> int:
    return hashlib.sha256(f"{sprite.concept}|{sprite.style}|split".encode()).digest()[0]


def png_bytes(image: Image.Image) -> bytes:
    """A picture as a PNG."""
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    """Aside and then renamed: a file that is there is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, SCHEMA), aside, row_group_size=1000)
    os.replace(aside, path)
