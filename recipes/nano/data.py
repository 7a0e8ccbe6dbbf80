"""Stage 1, data: compose scenes with captions into Parquet tables that every later stage reads.

    scenes.parquet     what all stages train on: scenes of the few concepts to draw well, of the broad
                       vocabulary, and of all other concepts, which go without a name ("a drawing");
                       photographs where the preset asks
    held-out.parquet   scenes of the few concepts in drawings that no stage ever sees, and photographs of
                       Tiny-ImageNet's validation set
    unseen.parquet     scenes of other concepts in drawings that no stage ever sees

Columns: `image` (PNG), `captions` (list: name, sentence), `mosaic` (colour words, coarse to fine), `concepts`,
`styles`.
"""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image
from rich.progress import track

from recipes.nano.captions import short_captions
from recipes.nano.photos import photo_rows
from recipes.nano.presets import Preset
from recipes.nano.rows import table_row
from recipes.nano.scenes import Scene, random_scene
from recipes.nano.sprites import CONCEPTS, Sprite, load_sprites, select

FOCUS_ALONE = 0.84  # of the focus scenes show one object; pairs are small, and teach a drawing's shape less


def compose(preset: Preset, data: Path, out: Path) -> None:
    """Write the tables; the same preset gives the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    sprites = load_sprites(data / "emoji-64px.parquet")
    sizes = preset.data
    drilled = CONCEPTS[: sizes.focus_concepts]
    broad, focus = (select(sprites, concepts, held_out=False) for concepts in (CONCEPTS, drilled))
    held_out = select(sprites, drilled, held_out=True)
    others = tuple({sprite.concept for sprite in sprites} - set(CONCEPTS))
    extra, unseen = (select(sprites, others, held_out=which) for which in (False, True))
    for name, drawings in {"broad": broad, "focus": focus, "held out": held_out, "unseen": unseen}.items():
        print(f"{name}: {len(drawings)} drawings of {len({drawing.concept for drawing in drawings})} concepts")
    photos, held_out_photos = [], []
    if sizes.photos:
        rng = np.random.default_rng(4)
        photos = photo_rows(sorted(data.glob("tiny-imagenet-train-*.parquet")), sizes.photos, rng)
        held_out_photos = photo_rows([data / "tiny-imagenet-val.parquet"], sizes.held_out_photos, rng)
    scenes = [
        *scene_rows(focus, sizes.focus_scenes, seed=5, alone=FOCUS_ALONE),
        *scene_rows(broad, sizes.broad_scenes, seed=1),
        *scene_rows(extra, sizes.other_scenes, seed=2, alone=FOCUS_ALONE, named=False),
    ]
    _write(out / "scenes.parquet", [*scenes, *photos])
    _write(
        out / "held-out.parquet",
        [*scene_rows(focus, sizes.held_out_scenes, seed=3, first=held_out, alone=FOCUS_ALONE), *held_out_photos],
    )
    _write(
        out / "unseen.parquet", scene_rows(unseen, sizes.held_out_scenes, seed=6, first=unseen, alone=1.0, named=False)
    )


def read_pixels(table: Path) -> np.ndarray:
    """The table's pictures, [N, 64, 64, 3] uint8."""
    column = pyarrow.parquet.read_table(table, columns=["image"])["image"]
    return np.stack([np.asarray(Image.open(io.BytesIO(cell.as_py())).convert("RGB")) for cell in column])


def scene_rows(
    sprites: list[Sprite],
    count: int,
    seed: int,
    first: list[Sprite] | None = None,
    alone: float = 0.75,
    named: bool = True,
) -> list[dict]:
    """Random scenes as table rows; the i-th one's first object is drawn from `first` in turn, if given.

    Where they are not `named`, captions call every object a drawing.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for i in track(range(count), description=f"scenes {seed}"):
        scene = random_scene(sprites, rng, first[i % len(first)] if first else None, alone)
        rows.append(
            table_row(
                scene.render(),
                captions=short_captions(scene if named else _nameless(scene), rng),
                concepts=[placed.sprite.concept for placed in scene.objects],
                styles=[placed.sprite.style for placed in scene.objects],
            )
        )
    return rows


def _nameless(scene: Scene) -> Scene:
    objects = (replace(placed, sprite=replace(placed.sprite, concept="drawing")) for placed in scene.objects)
    return replace(scene, objects=tuple(objects))


def _write(path: Path, rows: list[dict]) -> None:
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
