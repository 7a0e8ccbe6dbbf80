"""The views of a picture: the whole, then its crops row by row, each squashed to the tower's square.

Nothing is cut off: PaliGemma's pictures are squashed, for an answer may lie at any edge (big_vision, its RefCOCO
configuration: "no worse than padding"). `ViLexEncoder.preprocess` crops to the middle square and has no place here.
Bicubic with antialiasing, as transformers' processor does it.
"""

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from vilex.encoder.preprocess import Preprocess

Box = tuple[int, int, int, int]  # left, top, right, bottom


def squash(image: Image.Image, size: int) -> Image.Image:
    """A picture to `size` x `size`, whatever its shape."""
    return image.resize((size, size), Image.Resampling.BICUBIC)


def crop_boxes(width: int, height: int, grid: int) -> list[Box]:
    """`grid` x `grid` crops row by row; none for a grid of 1, whose only crop is the whole.

    Where a side is no multiple of the grid, a pixel on the border belongs to both its neighbours.
    """
    if grid == 1:
        return []
    x, y = ([(side * i // grid, -(-side * (i + 1) // grid)) for i in range(grid)] for side in (width, height))
    return [(left, top, right, bottom) for top, bottom in y for left, right in x]


@dataclass(frozen=True)
class Views:
    """Pictures to the pixels of their views; on the CPU, small and picklable, for data workers.

    Attributes:
        preprocess: squashes to the size S and normalises, as what looks at them wants it.
        grid: crops a side; 1 is the whole picture alone.
    """

    preprocess: Preprocess
    grid: int = 1

    @property
    def count(self) -> int:
        """V, the number of views: 1, or 1 + grid^2."""
        return 1 + len(crop_boxes(1, 1, self.grid))

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB picture of any size to [V, 3, S, S], normalised, the whole first."""
        crops = [image.crop(box) for box in crop_boxes(*image.size, self.grid)]  # resize(box=...) looks beyond the box
        return self.preprocess([image, *crops])
