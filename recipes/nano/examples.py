"""The sample pictures of `examples/images`: held-out drawings, by rule, big in the middle of a plain ground.

python -m recipes.nano.examples DATA_DIR examples/images
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from recipes.nano.colours import PALETTE
from recipes.nano.scenes import SIZE, SIZES, Ground, Placed, Scene
from recipes.nano.sprites import CONCEPTS, is_held_out, load_sprites, word_of

# The rule: of each of these styles the first concept, in the order of CONCEPTS, whose drawing is held out. The licences
# allow it (fluent is MIT, noto Apache-2.0). The README shows the first one's tokens and the last one among words.
GROUNDS = {"fluent-3d": "magenta", "noto": "beige", "fluent-flat": "navy"}


def samples() -> dict[str, tuple[str, str]]:
    """Concept and style of each sample, by the name of its file."""
    chosen = [(next(one for one in CONCEPTS if is_held_out(one, style)), style) for style in GROUNDS]
    return {word_of(concept): (concept, style) for concept, style in chosen}


def write_examples(data: Path, out: Path) -> None:
    """Draw each sample in the middle of its ground."""
    sprites = {(sprite.concept, sprite.style): sprite for sprite in load_sprites(data / "emoji-64px.parquet")}
    for name, (concept, style) in samples().items():
        colour = GROUNDS[style]
        pixels = np.broadcast_to(np.array(PALETTE[colour], dtype=np.uint8), (SIZE, SIZE, 3)).copy()
        placed = Placed(sprites[concept, style], SIZE // 2, SIZE // 2, SIZES[-1])
        Image.fromarray(Scene(Ground("plain", (colour,), pixels), (placed,)).render()).save(out / f"{name}.png")


if __name__ == "__main__":
    write_examples(Path(sys.argv[1]), Path(sys.argv[2]))
