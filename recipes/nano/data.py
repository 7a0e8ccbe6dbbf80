"""Stage 1, data: compose scenes with captions into Parquet tables that every later stage reads.

    scenes.parquet     what all stages train on: scenes of the concepts to draw well, of the broad
                       vocabulary, and of all other concepts, which go without a name ("a drawing");
                       photographs where the preset asks
    held-out.parquet   scenes of the concepts to draw well in drawings that no stage ever sees, and
                       photographs of Tiny-ImageNet's validation set
    unseen.parquet     scenes of other concepts in drawings that no stage ever sees
    photos.parquet     photographs, images alone, which the tower learns to see as its teacher does

Columns: `image` (PNG), `captions` (list: name, sentence, dense sentence), `mosaic` (colour words, coarse to
fine), `concepts`, `styles`.

Tables are composed in parts, each from its own seed, by as many processes as there are threads; parts that
are there are kept, so that the stage goes on where it was stopped.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image
from rich.progress import track

from recipes.nano.captions import captions_of
from recipes.nano.photos import bare_photos, photo_rows
from recipes.nano.presets import DataPreset, Preset
from recipes.nano.rows import table_row
from recipes.nano.scenes import Scene, random_scene
from recipes.nano.sprites import CONCEPTS, Sprite, load_sprites, select

FOCUS_ALONE = 0.84  # of the focus scenes show one object; pairs are small, and teach a drawing's shape less
PART = 2500  # rows
SOME = 4096  # rows that deviations, components and heads are measured on
SCENES, HELD_OUT, UNSEEN = "scenes", "held-out", "unseen"


@dataclass(frozen=True)
class Kind:
    """One kind of scenes in a table.

    Attributes:
        drawings: which sprites they are drawn from (`_sprites`).
        seed: the i-th part's generator is seeded by (seed, i).
        in_turn: the i-th scene's first object is the i-th drawing.
        named: whether captions name the objects, or call every one "a drawing".
    """

    table: str
    drawings: str
    count: int
    seed: int
    alone: float
    in_turn: bool = False
    named: bool = True


@dataclass(frozen=True)
class Part:
    kind: Kind
    number: int
    emoji: Path
    focus_concepts: int
    path: Path


def compose(preset: Preset, data: Path, out: Path) -> None:
    """Write the tables; the same preset gives the same pictures and words."""
    folder = out / f"parts-{_fingerprint(preset.data)}"
    folder.mkdir(parents=True, exist_ok=True)
    kinds = kinds_of(preset.data)
    parts = [
        Part(
            kind,
            number,
            data / "emoji-64px.parquet",
            preset.data.focus_concepts,
            folder / f"{kind.drawings}-{kind.table}-{number:04d}.parquet",
        )
        for kind in kinds
        for number in range(-(-kind.count // PART))
    ]
    for drawings in {part.kind.drawings: None for part in parts}:
        found = _sprites(data / "emoji-64px.parquet", preset.data.focus_concepts, drawings)
        print(f"{drawings}: {len(found)} drawings of {len({sprite.concept for sprite in found})} concepts", flush=True)
    missing = [part for part in parts if not part.path.is_file()]
    os.environ["OMP_NUM_THREADS"] = "1"  # of each process of the pool
    with get_context("spawn").Pool(preset.threads) as pool:
        for _ in track(pool.imap_unordered(_write_part, missing), total=len(missing), description="scenes"):
            pass
    photos = _photos(preset.data, data)
    for table in (SCENES, HELD_OUT, UNSEEN):
        own = [pyarrow.parquet.read_table(part.path) for part in parts if part.kind.table == table]
        extra = [pa.Table.from_pylist(photos[table])] if photos.get(table) else []
        _write(pa.concat_tables([*own, *extra]), out / f"{table}.parquet")
    if preset.data.tower_photos:
        tables, more = sorted(data.glob("tiny-imagenet-train-*.parquet")), data / "flickr8k-500.parquet"
        rows = bare_photos(tables, preset.data.tower_photos, more if more.is_file() else None)
        _write(pa.Table.from_pylist(list(rows)), out / "photos.parquet")
    for part in parts:
        part.path.unlink()
    folder.rmdir()


def kinds_of(sizes: DataPreset) -> list[Kind]:
    """What the tables are made of."""
    kinds = [
        Kind(SCENES, "focus", sizes.focus_scenes, 5, FOCUS_ALONE),
        Kind(SCENES, "broad", sizes.broad_scenes, 1, 0.75),
        Kind(SCENES, "others", sizes.other_scenes, 2, FOCUS_ALONE, named=False),
        Kind(HELD_OUT, "held out", sizes.held_out_scenes, 3, FOCUS_ALONE, in_turn=True),
        Kind(UNSEEN, "unseen", sizes.held_out_scenes, 6, 1.0, in_turn=True, named=False),
    ]
    return [kind for kind in kinds if kind.count]


def read_pixels(table: Path, most: int = 0) -> np.ndarray:
    """The table's pictures, [N, 64, 64, 3] uint8: `most` of them, evenly spaced; all for 0, or where it holds fewer."""
    column = pyarrow.parquet.read_table(table, columns=["image"])["image"]
    if 0 < most < len(column):
        column = column.take(evenly_spaced(len(column), most))
    pixels: np.ndarray | None = None
    for i, cell in enumerate(column):
        one = np.asarray(Image.open(io.BytesIO(cell.as_py())).convert("RGB"))
        if pixels is None:
            pixels = np.empty((len(column), *one.shape), dtype=np.uint8)
        pixels[i] = one
    if pixels is None:
        raise ValueError(f"{table}: holds no pictures")
    return pixels


def evenly_spaced(count: int, most: int = SOME) -> np.ndarray:
    """Rows of `count`, `most` of them, for what is measured on a part of a table; all where there are fewer."""
    return np.linspace(0, count - 1, min(most, count)).astype(int)


def scene_rows(kind: Kind, number: int, sprites: list[Sprite], partners: list[Sprite]) -> Iterator[dict]:
    """One part of random scenes as table rows.

    Args:
        sprites: the kind's drawings. partners: what else may stand in a scene of two.
    """
    rng = np.random.default_rng((kind.seed, number))
    for i in range(number * PART, min(kind.count, (number + 1) * PART)):
        first = sprites[i % len(sprites)] if kind.in_turn else None
        scene = random_scene(partners if kind.in_turn else sprites, rng, first, kind.alone)
        yield table_row(
            scene.render(),
            captions=captions_of(scene if kind.named else _nameless(scene), rng),
            concepts=[placed.sprite.concept for placed in scene.objects],
            styles=[placed.sprite.style for placed in scene.objects],
        )


def _write_part(part: Part) -> None:
    """One part, aside and then renamed; runs in a process of its own."""
    sprites = _sprites(part.emoji, part.focus_concepts, part.kind.drawings)
    partners = _sprites(part.emoji, part.focus_concepts, "focus") if part.kind.table == HELD_OUT else sprites
    _write(pa.Table.from_pylist(list(scene_rows(part.kind, part.number, sprites, partners))), part.path)


@cache
def _sprites(emoji: Path, focus_concepts: int, drawings: str) -> list[Sprite]:
    """`focus`: of the concepts to draw well; `broad`: of all that have a name; `others`: of the rest. `held out` and
    `unseen`: of the first and of the last, those that nobody trains on."""
    sprites = _all_sprites(emoji)
    others = tuple({sprite.concept for sprite in sprites} - set(CONCEPTS))
    drilled = CONCEPTS[:focus_concepts]
    concepts = {"focus": drilled, "broad": CONCEPTS, "others": others, "held out": drilled, "unseen": others}
    return select(sprites, concepts[drawings], held_out=drawings in ("held out", "unseen"))


@cache
def _all_sprites(emoji: Path) -> list[Sprite]:
    return load_sprites(emoji)


def _nameless(scene: Scene) -> Scene:
    objects = (replace(placed, sprite=replace(placed.sprite, concept="drawing")) for placed in scene.objects)
    return replace(scene, objects=tuple(objects))


def _photos(sizes: DataPreset, data: Path) -> dict[str, list[dict]]:
    """Rows of photographs by table."""
    if not sizes.photos:
        return {}
    rng = np.random.default_rng(4)
    return {
        SCENES: photo_rows(sorted(data.glob("tiny-imagenet-train-*.parquet")), sizes.photos, rng),
        HELD_OUT: photo_rows([data / "tiny-imagenet-val.parquet"], sizes.held_out_photos, rng),
    }


def _write(table: pa.Table, path: Path) -> None:
    """Aside and then renamed: a file that is there is whole."""
    aside = path.with_suffix(".tmp")
    pyarrow.parquet.write_table(table, aside, row_group_size=PART)
    os.replace(aside, path)


def _fingerprint(sizes: DataPreset) -> str:
    return hashlib.sha256(json.dumps(asdict(sizes), sort_keys=True).encode()).hexdigest()[:12]
