"""Statistics of a reference set, made once and kept: what a Fréchet distance compares with."""

import hashlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from vilex.data.config import SourceConfig
from vilex.data.reading import read_all
from vilex.data.sources import open_source
from vilex.errors import InputError
from vilex.eval.distances import Moments
from vilex.eval.features import features_of, load_extractor
from vilex.paths import replacing
from vilex.pictures.fit import FITS, Fit, check_fit, square

BATCH = 64


@torch.inference_mode()
def write_reference(
    source: SourceConfig,
    out: Path,
    features: str,
    size: int,
    images: int | None = None,
    device: str = "cpu",
    fit: Fit = "crop",
    on_picture: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Look at every picture's middle square, bicubic to `size`, and write the moments of its features.

    Args:
        fit: `pad` or `squash` to a square instead.
    Returns:
        What the file says of itself (count, features, size, data, and a hash of the pictures), and a line for
        each refused picture.
    """
    extractor, fit = load_extractor(features, device), check_fit(fit)
    refused: list[str] = []
    examples = islice(read_all(open_source(source), refused), images)
    moments: Moments | None = None
    digest = hashlib.sha256()
    while part := list(islice(examples, BATCH)):
        pictures = [square(example.image, size, fit) for example in part]
        for picture in pictures:
            digest.update(picture.tobytes())
        own = Moments.of(features_of(pictures, extractor).vectors, extractor.name)
        moments = own if moments is None else moments + own
        if on_picture:
            on_picture(moments.count, images or moments.count + 1)
    if moments is None:
        raise InputError(f"{source.path}: no readable image; " + "; ".join(refused[:3]))
    about = {"size": str(size), "data": source.path, "pictures_sha256": digest.hexdigest()}
    about |= {} if fit == FITS[0] else {"fit": fit}
    with replacing(out) as aside:
        moments.save(aside, about)
    return {"features": extractor.name, "count": moments.count, **about}, refused
