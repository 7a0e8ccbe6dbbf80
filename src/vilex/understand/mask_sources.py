"""Masks that a user has, cut to their boxes: what a mask codec is trained on.

a folder            pictures, at any depth: white inside, or transparent outside
*.jsonl             a mask a line, as `vilex understand convert refcoco` writes it, `{"mask": {"size", "counts"}, ...}`;
                    the name of a picture in its place, `{"mask": "7.png"}`; or RefCOCO's own lines, with `samples`
instances*.json     COCO's annotations; crowds are left out
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vilex.errors import InputError
from vilex.pictures.load import EXTENSIONS, FORMATS, MAX_PIXELS
from vilex.understand.examples import inside
from vilex.understand.masks import cut
from vilex.understand.rle import Mask, check_size, read_mask
from vilex.understand.tasks.reading import Record, read_lines, read_record

MOST_BAD = 0.05  # share of masks; more of them, and the source is not what its user thinks
HALF = 128


@dataclass(frozen=True)
class Outlines:
    """Masks of a source, each shape once.

    Attributes:
        masks: [N, 64, 64] uint8, of 0 to 255. seen: how many there were. bad: a line for each that is none.
    """

    masks: Tensor
    seen: int
    bad: tuple[str, ...]

    def split(self, share: float, seed: int) -> tuple[Tensor, Tensor]:
        """Those to learn from, and `share` of them, at least one, to measure on."""
        order = torch.randperm(len(self.masks), generator=torch.Generator().manual_seed(seed))
        tested = max(1, round(share * len(order)))
        return self.masks[order[tested:]], self.masks[order[:tested]]


def read_outlines(source: Path) -> Outlines:
    """Read all masks of a source.

    Raises:
        InputError: it is none of the forms, holds no mask, or more than a twentieth of them are none.
    """
    found: dict[bytes, NDArray[np.uint8]] = {}
    bad: list[str] = []
    seen = 0
    for mask in _masks_of(source):
        seen += 1
        if isinstance(mask, InputError):
            bad.append(str(mask))
        else:
            small = cut(mask)
            found.setdefault(hashlib.blake2b(small.tobytes(), digest_size=16).digest(), small)
    if not seen:
        raise InputError(
            f"{source}: no masks in it; give a folder of pictures, JSON lines with 'mask', or instances.json"
        )
    if not found or len(bad) > MOST_BAD * seen:
        raise InputError(f"{source}: {len(bad)} of {seen} masks cannot be used, the first: {bad[0]}")
    return Outlines(torch.from_numpy(np.stack(list(found.values()))), seen, tuple(bad))


def mask_of_picture(path: Path) -> Mask:
    """A mask that is a picture: where it is opaque, if parts of it are not; else where it is white.

    Two values, of which the higher is below half, as 0 and 1, are black and white.

    Returns:
        [h, w] bool.
    Raises:
        InputError: it cannot be read, is empty, or holds several masks as numbers.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{path}: over {MAX_PIXELS} pixels; resize it first")
            grey = np.asarray(image.convert("LA" if image.has_transparency_data else "L"))
    except InputError:
        raise
    except Exception as error:  # what decoders raise of damaged bytes is without number
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read as a mask ({reason}); give a picture, white on black") from None
    if grey.ndim == 3:
        grey = grey[..., 1] if grey[..., 1].min() < 255 else grey[..., 0]
    values = np.unique(grey)
    if len(values) > 2 and values[-1] < HALF:
        raise InputError(
            f"{path}: {len(values)} values below half, numbers of several masks? give each its own picture"
        )
    found: Mask = grey >= min(HALF, max(1, int(values[-1])))
    if not found.any():
        raise InputError(f"{path}: an empty mask, nothing in it is white; leave it out")
    return found


def _masks_of(source: Path) -> Iterator[Mask | InputError]:
    """Every mask, or what is wrong with it; what is wrong with the whole source is raised."""
    suffix = source.suffix.lower()
    if source.is_dir():
        for path in sorted(path for path in source.rglob("*") if path.suffix.lower() in EXTENSIONS):
            yield _or_error(mask_of_picture, path)
    elif suffix in (".jsonl", ".ndjson"):
        for row in read_lines(source):
            for one in row.records("samples") if "samples" in row else [row]:
                yield _or_error(lambda pair: _of_line(pair[0], pair[1], source.parent), (one, row))
    else:
        yield from _of_instances(source)


def _of_line(sample: Record, row: Record, root: Path) -> Mask:
    """The mask of a line, or of one of its samples."""
    given = sample.get("mask")
    where = f"{sample.where}: 'mask'"
    if isinstance(given, str):
        return mask_of_picture(inside(root, given, sample.where))
    size = given.get("size") if isinstance(given, dict) else None
    known = (size[0], size[1]) if isinstance(size, list) and len(size) == 2 else (row.get("height"), row.get("width"))
    height, width = check_size(*known, where)
    return _not_empty(read_mask(given, height, width, where), where)


def _of_instances(source: Path) -> Iterator[Mask | InputError]:
    data = read_record(source)
    images = {image.whole("id"): image for image in data.records("images")}
    for note in data.records("annotations"):
        if not note.values.get("iscrowd"):
            yield _or_error(lambda note: _of_note(note, images), note)


def _of_note(note: Record, images: dict[int, Record]) -> Mask:
    image = images.get(note.whole("image_id"))
    if image is None:
        raise InputError(f"{note.where}: 'image_id': {note.whole('image_id')} is not among the images of its file")
    height, width = check_size(image.get("height"), image.get("width"), image.where)
    where = f"{note.where}: 'segmentation'"
    return _not_empty(read_mask(note.get("segmentation"), height, width, where), where)


def _not_empty(mask: Mask, where: str) -> Mask:
    if not mask.any():
        raise InputError(f"{where}: an empty mask; leave it out")
    return mask


def _or_error(read: Callable[[Any], Mask], given: Any) -> Mask | InputError:
    try:
        return read(given)
    except InputError as error:
        return error
