"""How a run is doing, to the eye and in numbers: fixed images, re-created from 1, 4, 16 and n tokens."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from vilex.data.example import CaptionedImage
from vilex.data.sources import Indexed, Source, open_source
from vilex.data.streamed import Lane
from vilex.encoder import ViLexEncoder
from vilex.encoder.towers import patches_of
from vilex.errors import InputError, said_as
from vilex.lexicon import VisualLexicon
from vilex.pictures.fit import Fit, fitted
from vilex.pictures.grid import grid
from vilex.t2i.folder import DiffusersT2I
from vilex.train.config import TrainConfig
from vilex.train.sizes import training_sizes

COUNTS = (1, 4, 16)
STEPS = 20  # of sampling
WIDE = 96  # pixels of a picture in the grid


class Previews:
    """A run's fixed images, from `data.validation` or else from the training images.

    They are drawn at the first of `data.sizes`.

    Scores are named for what they compare: `psnr_16` by pixels, `similarity_16` by the features of the
    tower as it was before training (cosine of mean patches), both of pictures from 16 tokens.

    Args:
        tower: the tower as it was; it is kept in main memory and on the device only while previews are drawn.
        fit: how pictures that are not square are brought to the frozen model's size.
    """

    def __init__(self, config: TrainConfig, t2i: DiffusersT2I, tower: nn.Module, fit: Fit = "crop"):
        sizes = training_sizes(config.data, t2i)
        self.t2i, self.tower, (self.width, self.height) = t2i, tower, sizes[0]
        self.how: dict[str, Any] = {"width": self.width, "height": self.height} if config.data.sizes else {}
        fit = "crop" if len(sizes) > 1 else fit
        examples = _first_good(_source(config), config.run.sample_images)
        self.images = [fitted(example.image, self.width, self.height, fit) for example in examples]

    def draw(self, encoder: ViLexEncoder) -> tuple[Image.Image, dict[str, float]]:
        """A grid of source | 1 | 4 | 16 | n tokens, and the scores of each number of tokens."""
        lexicon, n = VisualLexicon(encoder, self.t2i), encoder.config.num_tokens
        drawn = {
            count: lexicon.reconstruct(self.images, count, steps=STEPS, **self.how)
            for count in sorted({min(count, n) for count in (*COUNTS, n)})
        }
        source, *features = self._features([self.images, *drawn.values()], encoder)
        scores: dict[str, float] = {}
        for (count, pictures), found in zip(drawn.items(), features, strict=True):
            scores[f"psnr_{count}"] = float(np.mean([psnr(a, b) for a, b in zip(self.images, pictures, strict=True)]))
            scores[f"similarity_{count}"] = F.cosine_similarity(source, found).mean().item()
        columns = {"source": self.images, **{f"{count}": pictures for count, pictures in drawn.items()}}
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        return grid(rows, list(columns), size=WIDE, height=round(WIDE * self.height / self.width)), scores

    @torch.no_grad()
    def _features(self, groups: list[list[Image.Image]], encoder: ViLexEncoder) -> list[Tensor]:
        """[B, D] of each group of B pictures: mean patches of the tower training began with."""
        tower = self.tower.to(encoder.device)
        try:
            return [patches_of(tower, encoder.preprocess(images).float()).mean(1) for images in groups]
        finally:
            self.tower.to("cpu")


def psnr(a: Image.Image, b: Image.Image) -> float:
    """Peak signal-to-noise ratio of two pictures of one size, in dB."""
    error = np.mean((np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(float(error), 1e-9)))


def _source(config: TrainConfig) -> Source:
    """The images that are shown; captions are not."""
    source = replace(config.data.all_sources[0], caption_column="")
    if not config.data.validation:
        return open_source(source)
    with said_as("data.path:", "data.validation:"):
        return open_source(replace(source, path=config.data.validation))


def _first_good(source: Source, count: int) -> list[CaptionedImage]:
    """A few examples: evenly over a source with random access, the first ones of a stream."""
    found: Iterable[CaptionedImage | InputError]
    if isinstance(source, Indexed):
        indices = sorted({i * len(source) // count for i in range(count)})
        found = (_try(source, index) for index in indices)
    else:
        found = islice(iter(Lane(source, 0, 1, seed=0, chunk=count)), 10 * count)
    good = [example for example in found if isinstance(example, CaptionedImage)][:count]
    if not good:
        raise InputError("data: none of the first images can be read; see data.path and data.validation")
    return good


def _try(source: Indexed, index: int) -> CaptionedImage | InputError:
    try:
        return source[index]
    except InputError as error:
        return error
