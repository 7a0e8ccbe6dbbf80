"""Frozen vectors of a set's pictures, each computed once and kept on disk: a run that was stopped goes on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import torch
from PIL import Image
from torch import Tensor

from vilex.errors import InputError
from vilex.eval.eyesight.text_side import TextSide
from vilex.understand.cache import FeatureCache, picture_hash
from vilex.understand.features import ImageFeatures

OnPicture = Callable[[int, int], None]


class Pictures(Protocol):
    """Pictures by number."""

    name: str

    def __len__(self) -> int: ...

    def picture(self, number: int, /) -> Path | Image.Image:
        """One of them. Raises InputError if it cannot be read."""


@dataclass(frozen=True)
class Seen:
    """What eyes saw of a set.

    Attributes:
        numbers: [N], of the pictures that could be read.
        hashes: [N], by which their vectors are kept.
        refused: a line for each of the others.
    """

    numbers: list[int]
    hashes: list[str]
    cache: FeatureCache
    refused: list[str]

    def vectors(self, chosen: list[int] | None = None) -> Tensor:
        """The first part of what was asked for, float32: [N, P, D], or of some of the N alone."""
        hashes = self.hashes if chosen is None else [self.hashes[i] for i in chosen]
        return torch.stack([self.cache[one][0] for one in hashes]).float()


def look(
    features: ImageFeatures | TextSide,
    given: Pictures,
    folder: Path,
    batch_size: int,
    on_picture: OnPicture = lambda done, total: None,
    dtype: torch.dtype = torch.float32,
) -> Seen:
    """Look at every picture that nobody has looked at yet.

    Args:
        folder: where vectors are kept, of all eyes. dtype: in which they are kept.
        on_picture: called with (seen, all) pictures.
    Raises:
        InputError: nothing can be written there, or no picture can be read.
    """
    like = cast(ImageFeatures, features)  # of a TextSide the cache asks for nothing that it has not
    cache = FeatureCache(folder, like, dtype)
    hashes: dict[int, str] = {}
    refused: list[str] = []

    def passing() -> Iterator[Path | Image.Image]:
        for i in range(len(given)):
            try:
                picture = given.picture(i)
                hashes[i] = picture_hash(picture)
            except InputError as error:
                refused.append(str(error))
            else:
                yield picture

    refused += cache.fill(passing(), like, batch_size, lambda count: on_picture(count, len(given)))
    numbers = [i for i, key in hashes.items() if key in cache]
    if not numbers:
        raise InputError(f"{given.name}: none of its {len(given)} pictures can be read; {refused[0]}")
    return Seen(numbers, [hashes[i] for i in numbers], cache, refused)


def chosen_by_content(hashes: list[str], share: int = 5) -> Tensor:
    """Which pictures are tested where no others are given for it: one in `share`, by their bytes. [N] bool.

    Two files of the same bytes are never on both sides, and a set that grows keeps its parts.
    """
    return torch.tensor([int(one[:12], 16) % share == 0 for one in hashes])
