"""Pictures that an encoder needs to be good at a second look: scenes of the benchmark's kind, whole and by quarters.

The main run never saw a quarter of anything, so its tokens may say less of one than patches do. Columns are those of
the other tables (`recipes/nano/data.py`); of a quarter nothing is said but that it is a part of a picture.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image

from recipes.nano.rows import table_row
from recipes.nano.scenes import SIZE
from recipes.nano.sprites import CONCEPTS, load_sprites, select
from recipes.nano.understanding.questions import caption_of
from recipes.nano.understanding.scenes import SIDE, random_wide_scene
from vilex.paths import replacing
from vilex.understand.views import crop_boxes

PART = "a part of a picture"
SEED = 11  # not that of the benchmark's own scenes


def compose_zoomed(emoji: Path, path: Path, scenes: int) -> None:
    """Write a table of five pictures a scene, the whole first; only training drawings are in it."""
    sprites, rng, rows = select(load_sprites(emoji), CONCEPTS, held_out=False), np.random.default_rng(SEED), []
    for _ in range(scenes):
        scene = random_wide_scene(sprites, rng)
        picture = scene.render()
        small = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        shown = [thing.sprite for thing in scene.things]
        rows.append(table_row(small, [caption_of(scene)], [one.concept for one in shown], [one.style for one in shown]))
        for box in crop_boxes(SIDE, SIDE, SIDE // SIZE):
            rows.append(table_row(np.asarray(picture.crop(box)), [PART], [], []))
    with replacing(path) as aside:
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), aside, row_group_size=1000)
