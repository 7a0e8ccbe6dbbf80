"""A mask as words, `<loc0103><loc0051><loc0900><loc0800><seg012>...`, and words as a mask, as big_vision has them.

Four `<loc>` say top, left, bottom and right in 1024ths of the picture, sixteen `<seg>` the outline within that box.
"""

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vilex.errors import InputError
from vilex.understand.mask_codec import CODES, SIDE, TOKENS, MaskCodec
from vilex.understand.rle import Mask, box_of

LOCATIONS = 1024
_WORDS = re.compile(rf"\s*((?:<loc\d{{4}}>){{4}})((?:<seg\d{{3}}>){{{TOKENS}}})")

Box = tuple[float, float, float, float]  # top, left, bottom, right, as shares of the picture from 0 to 1


def special_words() -> list[str]:
    """All words that a tokenizer must know: 1024 `<loc....>`, then 128 `<seg...>`."""
    return [f"<loc{i:04d}>" for i in range(LOCATIONS)] + [f"<seg{i:03d}>" for i in range(CODES)]


def cut(mask: Mask, box: Box | None = None) -> NDArray[np.uint8]:
    """What lies in a mask's box, by default its own, as [64, 64] of 0 to 255."""
    (height, width), (top, left, bottom, right) = mask.shape, box or own_box(mask)
    rows, columns = slice(round(top * height), round(bottom * height)), slice(round(left * width), round(right * width))
    part = Image.fromarray(mask[rows, columns].astype(np.uint8) * 255)
    return np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def own_box(mask: Mask) -> Box:
    """The smallest box around a mask, as shares of the picture."""
    height, width = mask.shape
    top, left, bottom, right = box_of(mask)
    return top / height, left / width, bottom / height, right / width


@torch.no_grad()
def mask_to_words(codec: MaskCodec, masks: Sequence[Mask], boxes: Sequence[Box | None] | None = None) -> list[str]:
    """Masks, [h, w] bool each, as words.

    Args:
        boxes: annotated ones; by default each mask's own.
    Raises:
        InputError: a mask is empty, or its box is.
    """
    parts, places = [], []
    for i, (mask, box) in enumerate(zip(masks, boxes or [None] * len(masks), strict=True)):
        if not mask.any():
            raise InputError(f"mask {i}: empty; leave the example out")
        box = box or own_box(mask)
        if round(box[0] * mask.shape[0]) >= round(box[2] * mask.shape[0]) or round(box[1] * mask.shape[1]) >= round(
            box[3] * mask.shape[1]
        ):
            raise InputError(
                f"mask {i}: its box {box} is empty; give top, left, bottom, right as shares of the picture"
            )
        parts.append(cut(mask, box))
        places.append("".join(f"<loc{_bin(value):04d}>" for value in box))
    if not parts:
        return []
    numbers = codec.encode(torch.from_numpy(np.stack(parts)).float() / 255).tolist()
    return [place + "".join(f"<seg{i:03d}>" for i in row) for place, row in zip(places, numbers, strict=True)]


@torch.no_grad()
def words_to_masks(codec: MaskCodec, words: Sequence[str], sizes: Sequence[tuple[int, int]]) -> list[Mask | None]:
    """Answers as masks; None where one is none: another form, or an empty box.

    Args:
        sizes: height and width of each picture in pixels.
    Returns:
        [h, w] bool each.
    """
    read = [_read(text) for text in words]
    there = [numbers for _, numbers in (one for one in read if one)]
    drawn = iter(codec.decode(torch.tensor(there)).numpy() if there else [])
    return [_placed(one[0], next(drawn), size) if one else None for one, size in zip(read, sizes, strict=True)]


def _read(text: str) -> tuple[list[int], list[int]] | None:
    """The four places and sixteen numbers that a text begins with."""
    found = _WORDS.match(text)
    if not found:
        return None
    box, numbers = ([int(one) for one in re.findall(r"\d+", part)] for part in found.groups())
    valid = max(box) < LOCATIONS and max(numbers) < CODES and box[2] > box[0] and box[3] > box[1]
    return (box, numbers) if valid else None


def _placed(box: list[int], drawn: NDArray[np.float32], size: tuple[int, int]) -> Mask | None:
    """[64, 64] laid into its box of a picture; corners are cut off to whole pixels, as big_vision does."""
    height, width = size
    shares = [value / (LOCATIONS - 1) for value in box]
    top, left, bottom, right = (int(share * side) for share, side in zip(shares, (height, width) * 2, strict=True))
    if bottom <= top or right <= left:
        return None
    inside = Image.fromarray(drawn).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    found = np.zeros(size, dtype=bool)
    found[top:bottom, left:right] = np.asarray(inside) > 0
    return found


def _bin(share: float) -> int:
    return min(max(round(share * (LOCATIONS - 1)), 0), LOCATIONS - 1)
