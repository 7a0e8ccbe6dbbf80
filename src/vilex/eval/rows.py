"""What the reconstruction protocol is asked for, and its rows: ways to draw a picture again."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vilex.data.config import SourceConfig
from vilex.data.example import CaptionedImage
from vilex.errors import InputError
from vilex.eval.picture_store import encoder_hash, text_key
from vilex.guidance import Guidance
from vilex.lexicon import VisualLexicon
from vilex.pictures.fit import Fit, square
from vilex.pictures.pixels import to_images, to_pixels
from vilex.prompt import literal
from vilex.tokens import counted

AUTOENCODER = "auto-encoder"


@dataclass(frozen=True)
class Reconstruction:
    """What to evaluate, and how.

    Attributes:
        source: the pictures; see `SourceConfig.path`. images: only the first so many.
        counts: numbers of tokens, a row each.
        captions: titles of the rows drawn from each picture's first, second, ... caption.
        seeds: of the noise; every row is drawn once for each.
        features: extractors by name, see `vilex.eval.features`. measures: see `vilex.eval.measures`.
        reference: statistics that `fid` compares with instead of the sources'.
        fit: how pictures that are not square are brought to the square that is drawn and encoded; the encoder's own
            way if None.
    """

    source: SourceConfig
    out: Path
    images: int | None = None
    counts: tuple[int, ...] = (1, 4, 16, 75)
    captions: tuple[str, ...] = ("caption",)
    seeds: tuple[int, ...] = (0,)
    features: tuple[str, ...] = ("lite0",)
    measures: tuple[str, ...] = ("distance", "rank", "error", "psnr", "ssim", "kid")
    reference: Path | None = None
    cfg: float = 3.0
    steps: int = 20
    scheduler: str = "dpm++"
    batch_size: int = 16
    fit: Fit | None = None


@dataclass(frozen=True)
class ExampleBatch:
    """Examples, their tokens [B, n, d] and the seeds of their noise."""

    examples: list[CaptionedImage]
    tokens: Tensor
    seeds: list[int]


Drawer = Callable[[ExampleBatch], list[Image.Image]]


@dataclass(frozen=True)
class Row:
    """A way to draw pictures again.

    Attributes:
        made_by: a hash of what draws, where it is another model than the one evaluated: pictures of another
            hash are never taken for this row's.
        words: what it reads of an example beside the picture: pictures of other words are not taken for it either.
    """

    draw: Drawer
    made_by: str = ""
    words: Callable[[CaptionedImage], str] | None = None

    def place(self, title: str) -> str:
        """The row's folder of pictures."""
        return f"{title} {self.made_by[:8]}".strip()

    def key(self, example: CaptionedImage, picture: str) -> str:
        """What its picture of an example is known by; picture: the key of the example's own."""
        return f"{picture}-{text_key(self.words(example))}" if self.words else picture


def rows_of(lexicon: VisualLexicon, settings: Reconstruction) -> dict[str, Row]:
    """The protocol's own rows, by title."""
    how, fit = _sampling(settings), settings.fit or lexicon.fit

    def from_caption(which: int) -> Row:
        words = partial(_caption, which=which)
        return Row(
            lambda batch: lexicon.generate([literal(words(one)) for one in batch.examples], seed=batch.seeds, **how),
            words=words,
        )

    @torch.inference_mode()
    def through_autoencoder(batch: ExampleBatch) -> list[Image.Image]:
        size = lexicon.t2i.image_size
        pixels = torch.stack([to_pixels(square(example.image, size, fit)) for example in batch.examples])
        return to_images(lexicon.t2i.decode(lexicon.t2i.encode(pixels.to(lexicon.t2i.device))))

    rows = {title: from_caption(i) for i, title in enumerate(settings.captions)}
    rows |= {counted(count): Row(_from_tokens(lexicon, settings, count)) for count in settings.counts}
    return {**rows, AUTOENCODER: Row(through_autoencoder)}


def from_encoder(lexicon: VisualLexicon, settings: Reconstruction, count: int) -> Row:
    """A further row: from `count` tokens of another encoder, with its own frozen model."""
    draw = _from_tokens(lexicon, settings, count)

    def encode_and_draw(batch: ExampleBatch) -> list[Image.Image]:
        images = [example.image for example in batch.examples]
        return draw(replace(batch, tokens=lexicon.encoder.encode(images, fit=settings.fit)))

    return Row(encode_and_draw, made_by=encoder_hash(lexicon))


def _from_tokens(lexicon: VisualLexicon, settings: Reconstruction, count: int) -> Drawer:
    def draw(batch: ExampleBatch) -> list[Image.Image]:
        named = {f"image{i}": one[:count] for i, one in enumerate(batch.tokens)}
        return lexicon.generate([f"<{name}>" for name in named], named, seed=batch.seeds, **_sampling(settings))

    return draw


def _sampling(settings: Reconstruction) -> dict[str, Any]:
    return {
        "guidance": Guidance(settings.cfg),
        "steps": settings.steps,
        "scheduler": settings.scheduler,
        "batch_size": settings.batch_size,
    }


def _caption(example: CaptionedImage, which: int) -> str:
    if which >= len(example.captions):
        raise InputError(
            f"{example.name}: {len(example.captions)} captions, at least {which + 1} expected; "
            "evaluate without captions (--captions 0), or add them"
        )
    return example.captions[which]
