"""Statistics of a reference set, made once and kept: what a Fréchet distance compares with."""

import hashlib
import os
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
from vilex.pictures.load import square

BATCH = 64


@torch.inference_mode()
def write_reference(
    source: SourceConfig,
    out: Path,
    features: str,
    size: int,
    images: int | None = None,
    device: str = "cpu",
    on_picture: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Look at every picture's middle square, bicubic to `size`, and write the moments of its features.

    Returns:
        What the file says of itself (count, features, size, data, and a hash of the pictures), and a line for
        each refused picture.
    """
    extractor = load_extractor(features, device)
    refused: list[str] = []
    examples = islice(read_all(open_source(source), refused), images)
    count, total, outer, digest = 0, 0.0, 0.0, hashlib.sha256()
    while part := list(islice(examples, BATCH)):
        pictures = [square(example.image, size) for example in part]
        for picture in pictures:
            digest.update(picture.tobytes())
        moments = Moments.of(features_of(pictures, extractor).vectors, extractor.name)
        count, total, outer = count + moments.count, total + moments.total, outer + moments.outer
        if on_picture:
            on_picture(count, images or count + 1)
    if not count:
        raise InputError(f"{source.path}: no readable image; " + "; ".join(refused[:3]))
    about = {"size": str(size), "data": source.path, "pictures_sha256": digest.hexdigest()}
    aside = out.with_suffix(f".{os.getpid()}.tmp")
    Moments(extractor.name, count, total, outer).save(aside, about)
    os.replace(aside, out)
    return {"features": extractor.name, "count": count, **about}, refused
