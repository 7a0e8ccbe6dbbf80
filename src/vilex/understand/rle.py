"""Masks as COCO writes them: polygons, or lengths of runs down the columns, as a list or packed into a text.

The same masks as pycocotools', without it: numpy alone, so that a mask is read where the package cannot be built.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vilex.errors import InputError

Mask = NDArray[np.bool_]
FORMS = 'polygons [[x, y, ...], ...], {"size": [h, w], "counts": [...]} or {"size": [h, w], "counts": "..."}'
_UPSAMPLED = 5  # how finely pycocotools walks along a polygon
_MOST_PIXELS = 2**26


def read_mask(segmentation: Any, height: int, width: int, where: str) -> Mask:
    """A mask of an annotation's `segmentation`.

    Args:
        height, width: of the picture. where: begins the error.
    Returns:
        [height, width] bool.
    Raises:
        InputError: it has another form, or another size than the picture.
    """
    if isinstance(segmentation, Mapping):
        size = segmentation.get("size")
        if size != [height, width]:
            raise InputError(f"{where}: 'size': expected [{height}, {width}], the picture's, got {size!r:.60}")
        return _of_counts(segmentation.get("counts"), height, width, where)
    if not isinstance(segmentation, list) or not segmentation:
        raise InputError(f"{where}: expected {FORMS}, got {segmentation!r:.60}")
    found = np.zeros((height, width), dtype=bool)
    for polygon in segmentation:
        found |= _of_polygon(polygon, height, width, where)
    return found


def write_mask(mask: Mask) -> dict[str, Any]:
    """A mask, [h, w], as {"size": [h, w], "counts": "..."}."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    ends = [*changes, flat.size]
    counts = [end - start for start, end in zip([0, *changes], ends, strict=True)]
    return {"size": list(mask.shape), "counts": _packed(counts)}


def check_size(height: Any, width: Any, where: str) -> tuple[int, int]:
    """A picture's height and width, as whole numbers of pixels.

    Raises:
        InputError: they are none, or more than any picture here has.
    """
    for name, side in (("height", height), ("width", width)):
        if type(side) is not int or side < 1:
            raise InputError(f"{where}: '{name}': expected a whole number of pixels, got {side!r:.60}")
    if height * width > _MOST_PIXELS:
        raise InputError(f"{where}: {width}x{height} is over {_MOST_PIXELS} pixels; give smaller pictures")
    return height, width


def _of_counts(counts: Any, height: int, width: int, where: str) -> Mask:
    if isinstance(counts, str):
        counts = _unpacked(counts, where)
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise InputError(f"{where}: 'counts': expected lengths of runs, as a list or packed, got {counts!r:.60}")
    if sum(counts) != height * width:
        raise InputError(f"{where}: 'counts': runs of {sum(counts)} pixels, expected {height} x {width}")
    ones = np.arange(len(counts)) % 2 == 1
    return np.repeat(ones, counts).reshape((height, width), order="F")


def _unpacked(text: str, where: str) -> list[int]:
    """Runs of pycocotools' text: 5 bits a letter, the sixth says that more follow; from the fourth on, differences."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise InputError(f"{where}: 'counts': no packed runs: {text!r:.40}")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift:
        raise InputError(f"{where}: 'counts': packed runs that end amid one: {text[-40:]!r}")
    return counts


def _packed(counts: list[int]) -> str:
    letters = []
    for i, count in enumerate(counts):
        value, more = count - counts[i - 2] if i > 2 else count, True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            letters.append(chr(48 + (bits | 32 * more)))
    return "".join(letters)


def _of_polygon(polygon: Any, height: int, width: int, where: str) -> Mask:
    """What lies within, by the points at which the boundary enters and leaves a column of pixels."""
    try:
        points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        points = np.zeros((0, 2))
    if len(points) < 3 or not (np.abs(points) < 1e6).all():
        raise InputError(f"{where}: a polygon: expected x, y of three points or more, got {polygon!r:.60}")
    x, y = _boundary((_UPSAMPLED * points + 0.5).astype(np.int64))
    turns = np.flatnonzero(np.diff(x)) + 1
    column = (np.where(x[turns] < x[turns - 1], x[turns], x[turns] - 1) + 0.5) / _UPSAMPLED - 0.5
    row = np.ceil(np.clip((np.minimum(y[turns], y[turns - 1]) + 0.5) / _UPSAMPLED - 0.5, 0, height))
    whole = (np.floor(column) == column) & (column >= 0) & (column <= width - 1)
    places = (column[whole] * height + row[whole]).astype(np.int64)
    toggles = np.bincount(places, minlength=height * width)[: height * width]
    return (np.cumsum(toggles) % 2 == 1).reshape((height, width), order="F")


def _boundary(corners: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every point of the closed line through `corners`, one step a time along its longer axis."""
    found = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = 0 if abs(end[0] - start[0]) >= abs(end[1] - start[1]) else 1
        low, high = (end, start) if start[along] > end[along] else (start, end)
        steps = np.arange(high[along] - low[along] + 1)
        slope = (high[1 - along] - low[1 - along]) / max(1, high[along] - low[along])
        across = (low[1 - along] + slope * steps + 0.5).astype(np.int64)
        line = np.stack([steps + low[along], across] if along == 0 else [across, steps + low[along]], axis=1)
        found.append(line[::-1] if low is end else line)
    points = np.concatenate(found)
    return points[:, 0], points[:, 1]


def box_of(mask: Mask) -> Sequence[int]:
    """The smallest box around a mask that is not empty: top, left, bottom, right in pixels, the last two exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
