"""The sample pictures of `examples/images`: held-out drawings whose licences allow it, on plain grounds.

python -m recipes.nano.examples DATA_DIR examples/images
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from recipes.nano.colours import PALETTE
from recipes.nano.scenes import SIZE, SIZES, Ground, Placed, Scene
from recipes.nano.sprites import load_sprites

SAMPLES = {  # file: concept, style, ground; fluent-3d is MIT, noto Apache-2.0
    "dog": ("dog face", "fluent-3d", "magenta"),
    "butterfly": ("butterfly", "noto", "beige"),
    "star": ("star", "noto", "navy"),
}


def write_examples(data: Path, out: Path) -> None:
    """Draw each sample big in the middle of its ground."""
    sprites = {(sprite.concept, sprite.style): sprite for sprite in load_sprites(data / "emoji-64px.parquet")}
    for name, (concept, style, colour) in SAMPLES.items():
        sprite = sprites[concept, style]
        if not sprite.held_out:
            raise ValueError(f"{concept} in {style} is a training drawing; choose a held-out one")
        pixels = np.broadcast_to(np.array(PALETTE[colour], dtype=np.uint8), (SIZE, SIZE, 3)).copy()
        scene = Scene(Ground("plain", (colour,), pixels), (Placed(sprite, SIZE // 2, SIZE // 2, SIZES[-1]),))
        Image.fromarray(scene.render()).save(out / f"{name}.png")


if __name__ == "__main__":
    write_examples(Path(sys.argv[1]), Path(sys.argv[2]))
