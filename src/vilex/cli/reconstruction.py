"""A picture, what its tokens give back at several counts, and both side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from vilex.lexicon import ImageLike, VisualLexicon
from vilex.pictures.grid import grid
from vilex.tokens import counted


def reconstruct_at(
    lexicon: VisualLexicon, image: ImageLike, counts: Sequence[int], num_images: int, **settings: Any
) -> dict[int, list[Image.Image]]:
    """`num_images` pictures from each number of leading tokens; `settings` as in `VisualLexicon.generate`."""
    prompts = [f"<image:{count}>" for count in counts]
    pictures = lexicon.generate(prompts, {"image": image}, num_images=num_images, **settings)
    return {count: pictures[i * num_images : (i + 1) * num_images] for i, count in enumerate(counts)}


def reconstruction_grid(source: Image.Image, drawn: Mapping[int, Sequence[Image.Image]]) -> Image.Image:
    """Source | token counts; a row for each sample, at the drawn pictures' own size within 96 to 512 pixels."""
    samples = max(len(pictures) for pictures in drawn.values())
    rows = [[source if row == 0 else None, *(pictures[row] for pictures in drawn.values())] for row in range(samples)]
    own = next(iter(drawn.values()))[0].width
    return grid(rows, ["source", *(counted(count) for count in drawn)], size=min(max(96, own), 512))


def words_row(source: Image.Image, changed: Mapping[str, Image.Image]) -> Image.Image:
    """Source | one picture for each phrase that was put around the image's tokens."""
    return grid([[source, *changed.values()]], ["source", *changed], size=160)
