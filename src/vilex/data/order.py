"""Which sample comes when: a function of the seed and the visit's number, whoever asks."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

PERIOD = 1000  # visits over which a mixture's weights are met exactly, if no source is rarer


@dataclass(frozen=True)
class Visit:
    """One draw of a sample.

    Attributes:
        number: of this draw among all of the run; it seeds what is drawn for it.
        source: whose turn it is.
        index: which sample of a source with random access; None where a stream gives its next one.
    """

    number: int
    source: int
    index: int | None


class SourceMixture:
    """Deals visits out to sources by weight: exact over each period, in a shuffled pattern.

    A period is `PERIOD` visits, or so many more that each source has a turn in it.
    """

    def __init__(self, weights: list[float], seed: int):
        shares = np.array(weights) / sum(weights)
        self.period = PERIOD * max(1, math.ceil(1 / (shares.min() * PERIOD) - 1e-9))
        turns = shares * self.period
        counts = np.floor(turns + 1e-9).astype(int)
        for i in np.argsort(counts - turns, kind="stable")[: self.period - counts.sum()]:
            counts[i] += 1
        self.pattern = np.random.default_rng((seed, 2)).permutation(np.repeat(np.arange(len(weights)), counts))
        self.turns = [np.flatnonzero(self.pattern == source) for source in range(len(weights))]

    def turn(self, visit: int) -> tuple[int, int]:
        """The source whose turn a visit is, and how many turns that source has had before."""
        period, place = divmod(visit, self.period)
        source = int(self.pattern[place])
        turns = self.turns[source]
        return source, int(period * len(turns) + np.searchsorted(turns, place))


class Batches(torch.utils.data.Sampler[list[Visit]]):
    """This rank's part of every step's batch, from step `start` to `steps`.

    The visits of a step do not depend on the number of ranks, so neither does what is learnt. Each epoch
    of a source with random access is a permutation of its own.

    Args:
        counts: samples of each source; None for a stream.
        batch_size: of all ranks together; a multiple of `world`.
    """

    def __init__(
        self,
        counts: list[int | None],
        weights: list[float],
        *,
        batch_size: int,
        seed: int,
        start: int,
        steps: int,
        rank: int = 0,
        world: int = 1,
    ):
        self.counts, self.mixture, self.batch_size, self.seed = counts, SourceMixture(weights, seed), batch_size, seed
        self.start, self.steps, self.rank, self.part = start, steps, rank, batch_size // world

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[Visit]]:
        self.orders: dict[int, tuple[int, np.ndarray[Any, Any]]] = {}
        for step in range(self.start, self.steps):
            first = step * self.batch_size + self.rank * self.part
            yield [self._visit(number) for number in range(first, first + self.part)]

    def _visit(self, number: int) -> Visit:
        source, turn = self.mixture.turn(number)
        count = self.counts[source]
        if count is None:
            return Visit(number, source, None)
        epoch, place = divmod(turn, count)
        if self.orders.get(source, (-1,))[0] != epoch:
            order = np.random.default_rng((self.seed, epoch, source)).permutation(count)
            self.orders[source] = epoch, order
        return Visit(number, source, int(self.orders[source][1][place]))
