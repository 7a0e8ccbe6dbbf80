"""Mosaic words: one word says which two colours a cell of the picture shows and how they meet.

`red` is a cell of red; `redoverwhite` has red above white, `redbesidewhite` left of it, `redslopewhite` and
`redrisewhite` above it along a diagonal, `redaroundwhite` on all sides. `mostly` and `hardly` between colour
and relation tell how much of the cell the first colour takes: `redmostlyoverwhite`. Each word is true of its
pixels, and one token long, so 73 of them tell a picture from coarse to fine inside CLIP's 77 positions.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.nano.colours import PALETTE, WORDS, name_colours

RELATIONS = ("over", "beside", "slope", "rise", "around")
SHARES = ("", "mostly", "hardly")
LEVELS = (1, 2, 4, 8)  # cells a side, coarse to fine; of the finest level the corners are left out
CORNER = 3  # cells of each corner: (0, 0), (0, 1), (1, 0) and their mirror images
LEVEL_ENDS = (1, 5, 21, 21 + 64 - 4 * CORNER)  # words up to the end of each level
LENGTH = LEVEL_ENDS[-1]
_PLAIN = 14.0  # a cell whose colours differ by less (deviation along their main axis, of 255) is one colour
_CENTRED = 0.1  # of a cell's side: colours whose centres lie closer than this are one around the other


def mosaic_words(pixels: np.ndarray) -> list[str]:
    """The picture in `LENGTH` words: whole, quarters, 4 x 4 and 8 x 8 cells, each level row by row.

    Args:
        pixels: [64, 64, 3], 0 to 255.
    """
    return [word for cells in LEVELS for word in _level(pixels, cells)]


def word_parts() -> dict[str, tuple[str, str, str, str]]:
    """Every word there is, with its first colour, share, relation and second colour (empty where plain)."""
    parts = {colour: (colour, "", "", colour) for colour in WORDS}
    for first, share, relation, second in product(WORDS, SHARES, RELATIONS, WORDS):
        if first != second:
            parts[f"{first}{share}{relation}{second}"] = (first, share, relation, second)
    return parts


def word_vectors(words: list[str], width: int, generator: torch.Generator) -> Tensor:
    """Vectors to start from, [n, width] of variance one: words whose cells look alike lie close together.

    A sum of a linear map of the first colour, another of the second, and a vector for share and relation.
    """
    parts = word_parts()
    maps = torch.randn(2, 3, width, generator=generator)
    marks = {mark: torch.randn(width, generator=generator) for mark in product(SHARES, ("", *RELATIONS))}
    colours = {word: torch.tensor(rgb) / 127.5 - 1 for word, rgb in PALETTE.items()}
    vectors = torch.stack(
        [
            colours[first] @ maps[0] + colours[second] @ maps[1] + marks[share, relation]
            for first, share, relation, second in (parts[word] for word in words)
        ]
    )
    return (vectors - vectors.mean(0)) / vectors.std()


def place_vectors(width: int, generator: torch.Generator) -> Tensor:
    """Vectors for the places of a mosaic's words to start from, [LENGTH, width] of variance one.

    Cells that lie close together in the picture, at one level, get vectors that lie close together: cosines
    and sines of their middles, in random directions.
    """
    middles = torch.tensor([middle for cells in LEVELS for middle in _kept(cells, _middles(cells))])
    levels = torch.tensor([i for i, cells in enumerate(LEVELS) for _ in _kept(cells, _middles(cells))])
    waves = torch.randn(2, width // 2, generator=generator) * 2.5
    phases = middles @ waves + torch.randn(len(LEVELS), width // 2, generator=generator)[levels] * 3
    return torch.cat([phases.sin(), phases.cos()], 1) * 2**0.5


def cells_of(maps: Tensor) -> Tensor:
    """Means over the cells of a mosaic's words, [B, c, 8, 8] to [B, LENGTH, c], in the words' order."""
    levels = [F.adaptive_avg_pool2d(maps, cells).flatten(2).unbind(2) for cells in LEVELS]
    return torch.stack([cell for cells, level in zip(LEVELS, levels, strict=True) for cell in _kept(cells, level)], 1)


def _middles(cells: int) -> list[tuple[float, float]]:
    """(y, x) of each cell's middle, row by row, in 0..1."""
    return [((i // cells + 0.5) / cells, (i % cells + 0.5) / cells) for i in range(cells**2)]


def _kept(cells: int, values: Sequence[Any]) -> Sequence[Any]:
    """A level's values, one a cell, without those of the finest level's corners."""
    if cells < LEVELS[-1]:
        return values
    last = cells - 1
    return [
        value
        for i, value in enumerate(values)
        if min(i // cells, last - i // cells) + min(i % cells, last - i % cells) > 1
    ]


def _level(pixels: np.ndarray, cells: int) -> list[str]:
    side = len(pixels) // cells
    blocks = pixels.reshape(cells, side, cells, side, 3).transpose(0, 2, 1, 3, 4).reshape(-1, side * side, 3)
    return _kept(cells, cell_words(blocks.astype(np.float32)))


def cell_words(blocks: np.ndarray) -> list[str]:
    """Name square cells.

    The pixels are parted along the main axis of their colours, halfway between the means of the parts.

    Args:
        blocks: [n, side * side, 3], each cell's pixels row by row, 0 to 255.
    """
    side = int(blocks.shape[1] ** 0.5)
    centred = blocks - blocks.mean(1, keepdims=True)
    values, vectors = np.linalg.eigh(centred.transpose(0, 2, 1) @ centred / blocks.shape[1])
    along = (centred @ vectors[..., -1:])[..., 0]
    threshold = np.zeros((len(blocks), 1), dtype=np.float32)
    for _ in range(4):
        high = along > threshold
        threshold = (_mean(along, high) + _mean(along, ~high))[:, None] / 2
    high = along > threshold
    plain = values[:, -1] < _PLAIN**2
    rows, columns = (grid.reshape(1, -1) / side for grid in np.mgrid[:side, :side].astype(np.float32))
    down, right = (_mean(place, high) - _mean(place, ~high) for place in (rows, columns))
    spread = [
        _mean(rows**2 + columns**2, part) - _mean(rows, part) ** 2 - _mean(columns, part) ** 2 for part in (high, ~high)
    ]
    around = np.hypot(down, right) < _CENTRED
    high_first = np.where(around, spread[0] > spread[1], _comes_first(-down, -right))
    first = np.where(high_first[:, None], high, ~high)
    colours = [name_colours(np.stack([_mean(blocks[..., c], part) for c in range(3)], 1)) for part in (first, ~first)]
    middles = name_colours(blocks.mean(1))
    shares = np.digitize(first.mean(1), (0.36, 0.64))
    relations = np.where(around, 4, _relation(down, right))
    return [
        middle if flat or a == b else f"{a}{('hardly', '', 'mostly')[share]}{RELATIONS[relation]}{b}"
        for middle, flat, a, b, share, relation in zip(middles, plain, *colours, shares, relations, strict=True)
    ]


def _mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """[n] means of `values` [n or 1, m] over the true places of `where` [n, m]; 0 where there are none."""
    return (values * where).sum(1) / np.maximum(where.sum(1), 1)


def _angle(down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Eighths of a turn from rightwards, clockwise: 0 right, 1 right and down, 2 down, ... 7."""
    return np.round(np.arctan2(down, right) / (np.pi / 4)).astype(int) % 8


def _comes_first(down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Whether a part is named first, given how far down and right the other one lies: the upper or left one is."""
    return _angle(down, right) < 4


def _relation(down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Index into RELATIONS of the line that parts two colours."""
    return np.array([1, 3, 0, 2])[_angle(down, right) % 4]
