"""Pictures with a mask each, and what a linear classifier over patches knows of where is what.

    SET/images/NAME.*    SET/masks/NAME.png          a value a pixel, 0, 1, 2, ...; 255 does not count
    SET/classes.txt      a name a line, from value 0; can be left out

Published sets of that form are read under their own names: `JPEGImages` and `SegmentationClass` (Pascal VOC), `images`
and `annotations` (ADE20K, folders inside folders). Pictures are squashed to the tower's square, and so are masks.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vilex.data.example import decode_text
from vilex.errors import InputError
from vilex.eval.eyesight.probes import LinearProbe
from vilex.pictures.load import EXTENSIONS

FOLDERS = (("images", "masks"), ("images", "annotations"), ("JPEGImages", "SegmentationClass"))
IGNORED = 255


@dataclass(frozen=True)
class MaskedSet:
    """pictures, masks: paths, one beside the other. classes: names by value; values themselves if nothing names them.

    name: stands in errors.
    """

    name: str
    pictures: tuple[Path, ...]
    masks: tuple[Path, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    def picture(self, number: int) -> Path:
        """A picture by number."""
        return self.pictures[number]


def read_masked(folder: Path, images: int | None = None) -> MaskedSet:
    """A set by its folder; every mask is looked at.

    Args:
        images: only so many, drawn at random, the same ones every time.
    Raises:
        InputError: it has another form, or a mask is no mask of its classes.
    """
    pairs = next(
        ((folder / a, folder / b) for a, b in FOLDERS if (folder / b).is_dir() and (folder / a).is_dir()), None
    )
    if pairs is None:
        raise InputError(f"{folder}: no folders images and masks in it; see the page on evaluation for the form")
    masks = {path.relative_to(pairs[1]).with_suffix(""): path for path in sorted(pairs[1].rglob("*.png"))}
    found = sorted(path for path in pairs[0].rglob("*") if path.suffix.lower() in EXTENSIONS)
    both = [(path, mask) for path in found if (mask := masks.get(path.relative_to(pairs[0]).with_suffix("")))]
    if images is not None and images < len(both):
        chosen = np.sort(np.random.default_rng(0).permutation(len(both))[:images])
        both = [both[i] for i in chosen]
    if not both:
        raise InputError(f"{folder}: no picture in {pairs[0].name} has a mask of its name in {pairs[1].name}")
    most = max(_largest(path) for _, path in both)
    names = _names(folder / "classes.txt") or tuple(str(value) for value in range(most + 1))
    if most >= len(names):
        raise InputError(f"{folder}: a mask has the value {most}, but classes.txt names {len(names)} classes")
    if len(names) < 2:
        raise InputError(f"{folder}: masks of one class alone; a probe tells at least two apart")
    return MaskedSet(str(folder), tuple(path for path, _ in both), tuple(mask for _, mask in both), names)


def read_mask(path: Path) -> np.ndarray:
    """[H, W] uint8.

    Raises:
        InputError: it cannot be read, or has more than one value a pixel.
    """
    try:
        with Image.open(path) as mask:
            if mask.mode not in ("L", "P", "1"):
                raise InputError(f"{path}: a mask of mode {mask.mode}; expected one value a pixel (PNG of mode L or P)")
            return np.asarray(mask).astype(np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: damaged mask ({error}); make it again") from None


def patch_labels(mask: np.ndarray, side: int, classes: int) -> np.ndarray:
    """The class that most pixels of each patch have, row by row: [side * side]; IGNORED where none counts."""
    height, width = mask.shape
    rows, columns = np.arange(height) * side // height, np.arange(width) * side // width
    cell = rows[:, None] * side + columns[None]
    counts = np.zeros((side * side, classes), dtype=np.int64)
    counted = mask != IGNORED
    np.add.at(counts, (cell[counted], mask[counted]), 1)
    return np.where(counts.sum(1) > 0, counts.argmax(1), IGNORED).astype(np.uint8)


def overlap_of(probe: LinearProbe, patches: Tensor, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """A probe's classes, bilinear between patches, against a mask of any size.

    Args:
        patches: [P, D] of a picture.
    Returns:
        Pixels of each class in both and in either, [C] each, and the share of pixels that are right.
    """
    logits = probe(patches)
    side, classes = round(len(logits) ** 0.5), logits.shape[1]
    grid = F.interpolate(logits.T.reshape(1, classes, side, side), size=mask.shape, mode="bilinear")
    said, counted = grid[0].argmax(0).cpu().numpy(), mask != IGNORED
    said, true = said[counted], mask[counted]
    both = np.bincount(true[said == true], minlength=classes)
    either = np.bincount(true, minlength=classes) + np.bincount(said, minlength=classes) - both
    return both, either, float((said == true).mean()) if len(true) else 0.0


def counted_patches(patches: Tensor, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Patches [N, P, D] with labels [N, P] as [M, D] and [M], without those that do not count."""
    flat = torch.from_numpy(labels).flatten().long()
    kept = flat != IGNORED
    return patches.flatten(0, 1)[kept], flat[kept]


def _largest(path: Path) -> int:
    values = read_mask(path)
    return int(values[values != IGNORED].max(initial=0))


def _names(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    return tuple(line.strip() for line in decode_text(path.read_bytes(), str(path)).splitlines() if line.strip())
