"""How the named concepts after the first 110 were chosen: by how many styles exist and how alike they look.

    python -m recipes.nano.concepts DATA_DIR

Prints every concept of one word or few that exists in all six styles, best first, with its likeness: the mean cosine
of its drawings in different styles, by EfficientNet-Lite2's features and by their pixels, each style's own mean taken
away. The nearest other concept stands beside it. Off that list the recipe takes everyday objects, and leaves out
signs, letters, moons and faces that differ from another by little (`sprites.py`).
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from recipes.nano.sprites import STYLES, Sprite, load_sprites
from recipes.nano.teacher import Teacher

COARSE = 12  # pixels a side of the comparison by pixels
BATCH = 64


def likeness(sprites: list[Sprite]) -> list[tuple[str, float, str, float]]:
    """Concepts that exist in all styles: name, likeness from style to style, nearest other concept and its cosine."""
    by_name: dict[str, dict[str, Sprite]] = {}
    for sprite in sprites:
        by_name.setdefault(sprite.concept, {})[sprite.style] = sprite
    names = sorted(name for name, own in by_name.items() if len(own) == len(STYLES))
    colourful = [style for style in STYLES if style != "fluent-mono"]
    pictures = [_on_white(by_name[name][style]) for style in colourful for name in names]
    teacher = Teacher()
    seen = torch.cat([teacher(np.stack(pictures[i : i + BATCH]))[1] for i in range(0, len(pictures), BATCH)])
    coarse = torch.tensor(np.stack([np.asarray(Image.fromarray(p).resize((COARSE, COARSE))) for p in pictures])).float()
    features, pixels = (_centred(values.flatten(1), len(colourful)) for values in (seen, coarse))
    alike = _mean_cosine(features) + 0.7 * _mean_cosine(pixels)
    means = F.normalize(features.mean(0), dim=1)
    cosines = (means @ means.T).fill_diagonal_(-1)
    near, which = cosines.max(1)
    order = alike.argsort(descending=True).tolist()
    return [(names[i], alike[i].item(), names[which[i]], near[i].item()) for i in order]


def _centred(values: Tensor, styles: int) -> Tensor:
    """[styles * N, d] to unit vectors [styles, N, d] about each style's own mean."""
    values = values.view(styles, -1, values.shape[1])
    return F.normalize(values - values.mean(1, keepdim=True), dim=2)


def _mean_cosine(vectors: Tensor) -> Tensor:
    """[styles, N, d] to [N]: the mean over all pairs of styles."""
    styles = len(vectors)
    return (torch.einsum("snd,tnd->n", vectors, vectors) - styles) / (styles * (styles - 1))


def _on_white(sprite: Sprite) -> np.ndarray:
    ground = Image.new("RGBA", sprite.image.size, "white")
    ground.alpha_composite(sprite.image)
    return np.asarray(ground.convert("RGB"))


if __name__ == "__main__":
    for name, alike, nearest, cosine in likeness(load_sprites(Path(sys.argv[1]) / "emoji-64px.parquet")):
        print(f"{alike:.2f}  {name}  (near {nearest}, {cosine:.2f})")
