"""A picture beside what its tokens give back."""

from collections.abc import Mapping, Sequence

from PIL import Image

from vilex.grid import grid


def reconstruction_grid(source: Image.Image, drawn: Mapping[int, Sequence[Image.Image]]) -> Image.Image:
    """Source | token counts; a row for each sample."""
    samples = max(len(pictures) for pictures in drawn.values())
    rows = [[source if row == 0 else None, *(pictures[row] for pictures in drawn.values())] for row in range(samples)]
    return grid(rows, ["source", *(f"{count} token{'s' * (count > 1)}" for count in drawn)])


def words_row(source: Image.Image, changed: Mapping[str, Image.Image]) -> Image.Image:
    """Source | one picture for each phrase that was put around the image's tokens."""
    return grid([[source, *changed.values()]], ["source", *changed], size=160)
