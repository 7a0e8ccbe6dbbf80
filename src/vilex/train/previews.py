"""How a run is doing, to the eye and in numbers: fixed images, re-created from 1, 4, 16 and n tokens."""

from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vilex.data.example import Example
from vilex.data.sources import Indexed, open_source
from vilex.data.streamed import Lane, Stream
from vilex.encoder import ViLexEncoder, load_encoder
from vilex.encoder.towers import load_tower, patches_of
from vilex.errors import InputError
from vilex.lexicon import VisualLexicon
from vilex.pictures.grid import grid
from vilex.pictures.load import square
from vilex.t2i import FrozenT2I
from vilex.train.config import TrainConfig

COUNTS = (1, 4, 16)
STEPS = 20  # of sampling


class Judge:
    """A run's fixed images, from `data.validation` or else from the training images.

    Scores are named for what they compare: `psnr_16` by pixels, `similarity_16` by the features of the
    tower as it was before training (cosine of mean patches), both of pictures from 16 tokens.
    """

    def __init__(self, config: TrainConfig, t2i: FrozenT2I):
        source = replace(config.data.all_sources[0], path=config.data.validation or config.data.all_sources[0].path)
        self.config, self.t2i = config, t2i
        self.images = [
            square(example.image, t2i.image_size)
            for example in _first_good(open_source(source), config.run.sample_images)
        ]

    def look(self, encoder: ViLexEncoder) -> tuple[Image.Image, dict[str, float]]:
        """A grid of source | 1 | 4 | 16 | n tokens, and the scores of each number of tokens."""
        lexicon, n = VisualLexicon(encoder, self.t2i), encoder.config.num_tokens
        columns, scores = {"source": self.images}, {}
        features = self._features(encoder, self.images)
        for count in sorted({min(count, n) for count in (*COUNTS, n)}):
            drawn = lexicon.reconstruct(self.images, count, steps=STEPS)
            columns[f"{count}"] = drawn
            scores[f"psnr_{count}"] = float(np.mean([psnr(a, b) for a, b in zip(self.images, drawn, strict=True)]))
            similar = F.cosine_similarity(features, self._features(encoder, drawn))
            scores[f"similarity_{count}"] = similar.mean().item()
        return grid([list(row) for row in zip(*columns.values(), strict=True)], list(columns)), scores

    @torch.no_grad()
    def _features(self, encoder: ViLexEncoder, images: list[Image.Image]) -> Tensor:
        """[B, D] of the tower training began with, read anew each time: it need not stay in memory."""
        model = self.config.model
        tower = load_encoder(model.encoder).tower if model.encoder else load_tower(model.tower)
        tower = tower.to(encoder.device, torch.float32).eval()
        return patches_of(tower, encoder.preprocess(images).float()).mean(1)


def psnr(a: Image.Image, b: Image.Image) -> float:
    """Peak signal-to-noise ratio of two pictures of one size, in dB."""
    error = np.mean((np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def _first_good(source: Indexed | Stream, count: int) -> list[Example]:
    """A few examples: evenly over a source with random access, the first ones of a stream."""
    if hasattr(source, "__len__"):
        indices = sorted({i * len(source) // count for i in range(count)})
        found = (_try(source, index) for index in indices)
    else:
        found = islice(iter(Lane(source, 0, 1, seed=0, chunk=count)), 10 * count)
    good = [example for example in found if isinstance(example, Example)][:count]
    if not good:
        raise InputError("data: none of the first images can be read; see data.path and data.validation")
    return good


def _try(source: Indexed, index: int) -> Example | InputError:
    try:
        return source[index]
    except InputError as error:
        return error
