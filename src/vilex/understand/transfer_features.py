"""Features of a transfer's pictures, kept where the configuration says: for training, and for what answers later."""

from collections.abc import Iterable
from pathlib import Path

import torch

from vilex.pictures.inputs import PictureLike
from vilex.understand.cache import FeatureCache
from vilex.understand.features import FeaturesConfig, ImageFeatures


def open_cache(config: FeaturesConfig, features: ImageFeatures) -> FeatureCache | None:
    """The folder that keeps features, as far as it is filled; None where none is named."""
    if not config.cache:
        return None
    return FeatureCache(Path(config.cache), features, getattr(torch, config.cache_dtype))


def fill_cache(
    config: FeaturesConfig, features: ImageFeatures, pictures: Iterable[PictureLike]
) -> tuple[FeatureCache | None, list[str]]:
    """The same with all of these pictures, and a line for each that cannot be read."""
    cache = open_cache(config, features)
    refused = [] if cache is None else cache.fill(pictures, features)
    return cache, refused
