"""From examples to batches: which one comes when, with which of its suffixes, and its pictures read.

A visit's number decides all, whoever asks: each epoch is a permutation of its own, of several suffixes each comes
once before any comes again (big_vision's `choice_no_replacement`), and what is asked in another way each time is asked
so. Resumed at a step, a run meets what it would have.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vilex.data.loader import leave_signals_to_the_parent
from vilex.errors import InputError
from vilex.pictures.inputs import open_picture
from vilex.understand.cache import FeatureCache, picture_hash
from vilex.understand.examples import Example
from vilex.understand.layout import LaidOut, Layout
from vilex.understand.views import Views


class Order:
    """Visits of `count` examples."""

    def __init__(self, count: int, seed: int):
        self.count, self.seed = count, seed
        self.order: tuple[int, np.ndarray[Any, Any]] = (-1, np.zeros(0, dtype=int))

    def visit(self, number: int) -> tuple[int, int]:
        """The example whose turn it is, and in which epoch."""
        epoch, place = divmod(number, self.count)
        if self.order[0] != epoch:
            self.order = epoch, np.random.default_rng((self.seed, epoch, 5)).permutation(self.count)
        return int(self.order[1][place]), epoch

    def suffix(self, example: int, epoch: int, choices: int) -> int:
        """Which of an example's suffixes an epoch learns."""
        turn, place = divmod(epoch, choices)
        return int(np.random.default_rng((self.seed, example, turn, 6)).permutation(choices)[place])


@dataclass(frozen=True)
class Shown:
    """A row's pictures: pixels of their views, [I, V, 3, S, S], or kept features, [I, N_i, w_i] for each part."""

    pixels: Tensor | None = None
    parts: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class AskedBatch:
    """What a process takes at once.

    Attributes:
        shown: of all rows, one after another. laid: the rows. weights: [B], 0 for a row whose picture is broken.
        bad: a line for each of those.
    """

    shown: Shown
    laid: LaidOut
    weights: Tensor
    bad: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def questions(self) -> int:
        """How many, in all rows."""
        return len(self) if self.laid.question is None else int(self.laid.question.amax(1).sum())


class Gallery:
    """Pictures of examples as what a model is shown; broken ones are an InputError. Picklable.

    Args:
        views: makes pixels. cache: features that are kept, instead.
    """

    def __init__(self, views: Views, cache: FeatureCache | None = None):
        self.views, self.cache = views, cache

    def __call__(self, example: Example) -> Shown:
        if self.cache is None:
            return Shown(torch.stack([self.views(open_picture(image)) for image in example.images]))
        rows = []
        for image in example.images:
            key = picture_hash(image)
            if key not in self.cache:
                raise InputError(f"{image}: cannot be read, or has changed since its features were kept")
            rows.append(self.cache[key])
        return Shown(parts=tuple(torch.stack(part) for part in zip(*rows, strict=True)))

    def empty(self, images: int) -> Shown:
        """In the place of what is broken."""
        size = self.views.preprocess.size
        if self.cache is None:
            return Shown(torch.zeros(images, self.views.count, 3, size, size))
        return Shown(
            parts=tuple(torch.zeros(images, p.count, p.width, dtype=self.cache.dtype) for p in self.cache.parts)
        )


def join(shown: Sequence[Shown]) -> Shown:
    """Pictures of several rows, one after another."""
    if shown[0].pixels is not None:
        return Shown(torch.cat([one.pixels for one in shown if one.pixels is not None]))
    return Shown(parts=tuple(torch.cat(part) for part in zip(*(one.parts for one in shown), strict=True)))


Vary = Callable[[Example, random.Random], Example] | None  # another way to ask the same; see `Task.vary`


@dataclass(frozen=True)
class Visit:
    """A row to be: examples of the same pictures, the suffix that each learns, and what is wrong with the pictures."""

    shown: Shown
    examples: tuple[Example, ...]
    suffixes: tuple[str, ...]
    bad: str = ""


def rows_of(examples: Sequence[Example], pack: int = 0) -> list[tuple[int, ...]]:
    """Places of the examples that share a row: one by one, or at most `pack` that share their pictures."""
    if not pack:
        return [(i,) for i in range(len(examples))]
    alike: dict[tuple[Any, ...], list[int]] = {}
    for i, example in enumerate(examples):
        key = tuple(id(one) if isinstance(one, Image.Image) else one for one in example.images)
        alike.setdefault(key, []).append(i)
    return [tuple(places[i : i + pack]) for places in alike.values() for i in range(0, len(places), pack)]


class AskedData(Dataset[Visit]):
    """Visits made ready; `collate` lays them out, a micro-batch at a time.

    Args:
        rows: as `rows_of` gives them; each example is its own by default.
        vary: of each example; None asks as it is written.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        gallery: Gallery,
        layout: Layout,
        seed: int,
        micro: int,
        rows: Sequence[tuple[int, ...]] = (),
        vary: Sequence[Vary] = (),
    ):
        self.examples, self.gallery, self.layout, self.seed, self.micro = examples, gallery, layout, seed, micro
        self.rows, self.vary = rows or rows_of(examples), vary
        self.order = Order(len(self.rows), seed)

    def __getitem__(self, number: int) -> Visit:
        row, epoch = self.order.visit(number)
        asked = tuple(self._asked(place, epoch) for place in self.rows[row])
        suffixes = tuple(
            one.suffixes[self.order.suffix(place, epoch, len(one.suffixes))]
            for place, one in zip(self.rows[row], asked, strict=True)
        )
        try:
            return Visit(self.gallery(asked[0]), asked, suffixes)
        except InputError as error:
            return Visit(self.gallery.empty(len(asked[0].images)), asked, suffixes, str(error))

    def _asked(self, place: int, epoch: int) -> Example:
        vary = self.vary[place] if self.vary else None
        if vary is None:
            return self.examples[place]
        seed = np.random.SeedSequence((self.seed, place, epoch, 8)).generate_state(1)[0]
        return vary(self.examples[place], random.Random(int(seed)))

    def collate(self, visits: list[Visit]) -> list[AskedBatch]:
        """A batch's visits, laid out in micro-batches; like lengths together, so that little is padded."""
        size = self.micro or len(visits)
        visits = sorted(visits, key=lambda one: (len(one.examples[0].images), len(one.examples)))
        return [self._lay(visits[i : i + size]) for i in range(0, len(visits), size)]

    def _lay(self, visits: Sequence[Visit]) -> AskedBatch:
        images = [len(one.examples[0].images) for one in visits]
        names = [[f"example {example.id}" for example in one.examples] for one in visits]
        asked = [[example.prefix for example in one.examples] for one in visits]
        if any(len(one) > 1 for one in asked):
            pairs = [list(zip(some, one.suffixes, strict=True)) for some, one in zip(asked, visits, strict=True)]
            laid = self.layout.packed(pairs, images, names)
        else:
            said = [one.suffixes[0] for one in visits]
            laid = self.layout.training([one for (one,) in asked], said, images, [one for (one,) in names])
        weights = torch.tensor([float(not one.bad) for one in visits])
        return AskedBatch(
            join([one.shown for one in visits]), laid, weights, tuple(one.bad for one in visits if one.bad)
        )


class VisitSampler(Sampler[list[int]]):
    """This rank's part of every step's visits, from step `start` to `steps`."""

    def __init__(self, batch_size: int, start: int, steps: int, rank: int, world: int):
        self.batch_size, self.start, self.steps = batch_size, start, steps
        self.part = batch_size // world
        self.first = rank * self.part

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.steps):
            first = step * self.batch_size + self.first
            yield list(range(first, first + self.part))


def make_asked_loader(
    data: AskedData, *, batch_size: int, start: int, steps: int, workers: int, rank: int = 0, world: int = 1
) -> DataLoader[Any]:
    """This rank's batches for steps `start` to `steps`, each a list of micro-batches.

    Raises:
        InputError: the batch cannot be shared out evenly.
    """
    if batch_size % world:
        raise InputError(f"run.batch_size: {batch_size} is no multiple of the {world} processes")
    return DataLoader(
        data, batch_sampler=VisitSampler(batch_size, start, steps, rank, world), num_workers=workers,
        collate_fn=data.collate, worker_init_fn=leave_signals_to_the_parent,
    )  # fmt: skip


def pictures_of(examples: Sequence[Example]) -> Iterator[Any]:
    """All pictures of all examples."""
    return itertools.chain.from_iterable(one.images for one in examples)
