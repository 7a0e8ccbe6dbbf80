"""Stage 1, data: compose scenes with captions into Parquet tables that every later stage reads.

    train.parquet      scenes of the vocabulary's training drawings, and photographs where the preset asks
    extra.parquet      scenes of all other concepts' training drawings (for the auto-encoder alone)
    held-out.parquet   scenes whose first object is a drawing that no stage ever sees, and
                       photographs of Tiny-ImageNet's validation set

Columns: `image` (PNG), `captions` (list: name, sentence), `dense` (list: colour grids), `concepts`, `styles`.
"""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image
from rich.progress import track

from recipes.nano.captions import dense_captions, short_captions
from recipes.nano.photos import photo_rows
from recipes.nano.presets import Preset
from recipes.nano.scenes import random_scene
from recipes.nano.sprites import Sprite, load_sprites, vocabulary


def compose(preset: Preset, data: Path, out: Path) -> None:
    """Write the three tables; the same preset gives the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    sprites = load_sprites(data / "emoji-64px.parquet")
    named = vocabulary(sprites)
    known = [sprite for sprite in named if not sprite.held_out]
    held_out = [sprite for sprite in named if sprite.held_out]
    others = [s for s in sprites if not s.held_out and s.concept not in {n.concept for n in named}]
    print(f"{len(known)} training drawings, {len(held_out)} held out, {len(others)} of other concepts")
    sizes = preset.data
    photos, held_out_photos = [], []
    if sizes.photos:
        rng = np.random.default_rng(4)
        photos = photo_rows(sorted(data.glob("tiny-imagenet-train-*.parquet")), sizes.photos, rng)
        held_out_photos = photo_rows([data / "tiny-imagenet-val.parquet"], sizes.held_out_photos, rng)
    _write(out / "train.parquet", [*scene_rows(known, sizes.scenes, seed=1), *photos])
    _write(out / "extra.parquet", scene_rows(others, sizes.extra_scenes, seed=2))
    _write(out / "held-out.parquet", [*scene_rows(known, sizes.held_out_scenes, 3, held_out), *held_out_photos])


def read_pixels(table: Path) -> np.ndarray:
    """The table's pictures, [N, 64, 64, 3] uint8."""
    column = pyarrow.parquet.read_table(table, columns=["image"])["image"]
    return np.stack([np.asarray(Image.open(io.BytesIO(cell.as_py())).convert("RGB")) for cell in column])


def scene_rows(sprites: list[Sprite], count: int, seed: int, first: list[Sprite] | None = None) -> list[dict]:
    """Random scenes as table rows; the i-th one's first object is drawn from `first` in turn, if given."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in track(range(count), description=f"scenes {seed}"):
        scene = random_scene(sprites, rng, first=first[i % len(first)] if first else None)
        pixels = scene.render()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        rows.append(
            {
                "image": buffer.getvalue(),
                "captions": short_captions(scene, rng),
                "dense": dense_captions(scene, pixels, rng),
                "concepts": [placed.sprite.concept for placed in scene.objects],
                "styles": [placed.sprite.style for placed in scene.objects],
            }
        )
    return rows


def _write(path: Path, rows: list[dict]) -> None:
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
