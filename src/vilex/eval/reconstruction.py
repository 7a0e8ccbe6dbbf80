"""The reconstruction protocol: pictures to tokens and back, and what is lost at each number of tokens.

Every source is cropped to its middle square and resized (bicubic) to the frozen model's size: that crop is the
reference, and of the very same square the encoder sees its own size. Rows are ways to draw the picture again:

    caption        the text-to-image model from the picture's caption, if there is one
    N tokens       from its first N tokens
    auto-encoder   the frozen model's own auto-encoder there and back: nothing can come closer

Picture i of seed s begins from the same noise in every row. One pass over the data draws what is missing, so
an interrupted evaluation goes on; then everything is measured and written to results.json and results.md.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vilex.data.config import SourceConfig
from vilex.data.example import Example
from vilex.data.reading import read_all
from vilex.data.sources import Indexed, open_source
from vilex.data.streamed import Stream
from vilex.errors import InputError
from vilex.eval.distances import Moments
from vilex.eval.features import features_of, load_extractor
from vilex.eval.measures import check_measures, measure_row
from vilex.eval.picture_store import SOURCES, PictureStore, identity_of
from vilex.eval.tables import to_markdown, write_curves
from vilex.guidance import Guidance
from vilex.lexicon import VisualLexicon
from vilex.pictures.grid import grid
from vilex.pictures.load import square
from vilex.pictures.pixels import to_images, to_pixels
from vilex.tokens import counted

GRID_ROWS = 10
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


@dataclass(frozen=True)
class Batch:
    """Examples with their numbers in the evaluation, their tokens [B, n, d] and the seeds of their noise."""

    numbers: list[int]
    examples: list[Example]
    tokens: Tensor
    seeds: list[int]


Drawer = Callable[[Batch], list[Image.Image]]


@dataclass(frozen=True)
class Row:
    """A way to draw pictures again.

    Attributes:
        made_by: a hash of what draws, where it is another model than the one evaluated: pictures of another
            hash are never taken for this row's.
    """

    draw: Drawer
    made_by: str = ""

    def place(self, title: str) -> str:
        """The row's folder of pictures."""
        return f"{title} {self.made_by[:8]}".strip()


def evaluate_reconstruction(
    lexicon: VisualLexicon,
    settings: Reconstruction,
    more: dict[str, Row] | None = None,
    on_picture: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Draw what is missing, measure, and write results.json, results.md, grid.png and curves.svg.

    Args:
        more: further rows by title, say baselines.
        on_picture: called with (drawn, expected) pictures.
    Returns:
        The results, and a line for each picture of the source that was refused.
    Raises:
        InputError: settings do not fit, too few pictures for a measure, ...
    """
    check_measures(settings.measures)
    source = open_source(settings.source)
    reference = settings.reference and Moments.load(settings.reference)
    extractors = {name: load_extractor(name, lexicon.t2i.device) for name in settings.features}
    rows = {**rows_of(lexicon, settings), **(more or {})}
    identity = {"data": settings.source.path, "pixels": lexicon.t2i.image_size, **identity_of(lexicon, settings)}
    store = PictureStore(settings.out, identity)
    count, refused = draw_all(lexicon, settings, source, rows, store, on_picture)
    sources = store.load(SOURCES, 0, count)
    seen = {name: features_of(sources, extractor) for name, extractor in extractors.items()}
    results: dict[str, Any] = {
        "images": count,
        "refused": len(refused),
        "seeds": list(settings.seeds),
        "settings": identity,
        "rows": {},
    }
    shown = [sources[:GRID_ROWS]]
    for title, row in rows.items():
        drawn = [store.load(row.place(title), seed, count) for seed in settings.seeds]
        shown.append(drawn[0][:GRID_ROWS])
        again = {name: [features_of(one, extractor) for one in drawn] for name, extractor in extractors.items()}
        results["rows"][title] = measure_row(settings.measures, sources, seen, drawn, again, reference)
    grid([list(line) for line in zip(*shown, strict=True)], [SOURCES, *rows]).save(settings.out / "grid.png")
    (settings.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (settings.out / "results.md").write_text(to_markdown(results["rows"]))
    write_curves(results["rows"], settings.out / "curves.svg")
    return results, refused


def rows_of(lexicon: VisualLexicon, settings: Reconstruction) -> dict[str, Row]:
    """The protocol's own rows, by title."""
    how = _sampling(settings)

    def from_caption(which: int) -> Drawer:
        return lambda batch: lexicon.generate(
            [_caption(example, which) for example in batch.examples], seed=batch.seeds, **how
        )

    @torch.inference_mode()
    def through_autoencoder(batch: Batch) -> list[Image.Image]:
        size = lexicon.t2i.image_size
        pixels = torch.stack([to_pixels(square(example.image, size)) for example in batch.examples])
        return to_images(lexicon.t2i.decode(lexicon.t2i.encode(pixels.to(lexicon.t2i.device))))

    rows = {title: Row(from_caption(i)) for i, title in enumerate(settings.captions)}
    rows |= {counted(count): Row(_from_tokens(lexicon, settings, count)) for count in settings.counts}
    return {**rows, AUTOENCODER: Row(through_autoencoder)}


def from_encoder(lexicon: VisualLexicon, settings: Reconstruction, count: int) -> Row:
    """A further row: from `count` tokens of another encoder, with its own frozen model."""
    draw = _from_tokens(lexicon, settings, count)

    def encode_and_draw(batch: Batch) -> list[Image.Image]:
        return draw(replace(batch, tokens=lexicon.encode([example.image for example in batch.examples])))

    return Row(encode_and_draw, made_by=lexicon.encoder_sha256 or "")


def _from_tokens(lexicon: VisualLexicon, settings: Reconstruction, count: int) -> Drawer:
    def draw(batch: Batch) -> list[Image.Image]:
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


def draw_all(
    lexicon: VisualLexicon,
    settings: Reconstruction,
    source: Indexed | Stream,
    rows: dict[str, Row],
    store: PictureStore,
    on_picture: Callable[[int, int], None] | None = None,
) -> tuple[int, list[str]]:
    """Draw every missing picture in one pass over the source; returns how many examples there are, and refusals."""
    refused: list[str] = []
    size, count = lexicon.t2i.image_size, 0
    examples = islice(read_all(source, refused), settings.images)
    while part := list(islice(examples, settings.batch_size)):
        numbers = list(range(count, count + len(part)))
        count += len(part)
        if not store.has(SOURCES, 0, numbers):
            store.save(SOURCES, 0, numbers, [square(example.image, size) for example in part])
        places = {row.place(title): row for title, row in rows.items()}
        missing = [(place, seed) for place in places for seed in settings.seeds if not store.has(place, seed, numbers)]
        if missing:
            batch = Batch(numbers, part, lexicon.encode([example.image for example in part]), [])
        for place, seed in missing:
            seeds = [int(np.random.SeedSequence((seed, number)).generate_state(1)[0]) for number in numbers]
            store.save(place, seed, numbers, places[place].draw(replace(batch, seeds=seeds)))
        if on_picture:
            on_picture(count, settings.images or count + 1)
    if not count:
        raise InputError(f"{settings.source.path}: no readable image; " + "; ".join(refused[:3]))
    return count, refused


def _caption(example: Example, which: int) -> str:
    if which >= len(example.captions):
        raise InputError(
            f"{example.name}: {len(example.captions)} captions, at least {which + 1} expected; "
            "evaluate without captions, or add them"
        )
    return example.captions[which]
