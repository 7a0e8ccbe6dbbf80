"""From examples to batches: which one comes when, with which of its suffixes, and its pictures read.

A visit's number decides both, whoever asks: each epoch is a permutation of its own, and of several suffixes each comes
once before any comes again (big_vision's `choice_no_replacement`). Resumed at a step, a run meets what it would have.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
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


class AskedData(Dataset[tuple[Shown, Example, str, str]]):
    """Visits made ready; `collate` lays them out, a micro-batch at a time."""

    def __init__(self, examples: Sequence[Example], gallery: Gallery, layout: Layout, seed: int, micro: int):
        self.examples, self.gallery, self.layout, self.micro = examples, gallery, layout, micro
        self.order = Order(len(examples), seed)

    def __getitem__(self, number: int) -> tuple[Shown, Example, str, str]:
        index, epoch = self.order.visit(number)
        example = self.examples[index]
        suffix = example.suffixes[self.order.suffix(index, epoch, len(example.suffixes))]
        try:
            return self.gallery(example), example, suffix, ""
        except InputError as error:
            return self.gallery.empty(len(example.images)), example, suffix, str(error)

    def collate(self, samples: list[tuple[Shown, Example, str, str]]) -> list[AskedBatch]:
        """A batch's samples, laid out in micro-batches."""
        size = self.micro or len(samples)
        return [self._lay(samples[i : i + size]) for i in range(0, len(samples), size)]

    def _lay(self, samples: Sequence[tuple[Shown, Example, str, str]]) -> AskedBatch:
        shown, examples, suffixes, bad = zip(*samples, strict=True)
        laid = self.layout.training(
            [one.prefix for one in examples], suffixes, [len(one.images) for one in examples],
            [f"example {one.id}" for one in examples],
        )  # fmt: skip
        weights = torch.tensor([float(not line) for line in bad])
        return AskedBatch(join(shown), laid, weights, tuple(line for line in bad if line))


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
