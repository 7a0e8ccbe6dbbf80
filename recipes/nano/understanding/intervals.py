"""Means and differences with intervals: what other pictures and other seeds would have given.

A resample draws pictures with all their questions, and seeds, both with replacement; rows that are compared get the
same pictures and seeds. So an interval is wide where seeds disagree, even over many pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Answered:
    """One row's marks of one kind of question, in percent: [S, N] by seed and question, and each one's picture [N]."""

    marks: Numbers
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class Interval:
    """A mean, and where 95% of the resamples lie."""

    mean: float
    low: float
    high: float


class Resamples:
    """Draws of pictures and seeds, the same for every row.

    Args:
        pictures: of one set, all that any question is about. seeds: S. count: R, how many draws.
    """

    def __init__(self, pictures: Sequence[str], seeds: int, count: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.place = {name: i for i, name in enumerate(dict.fromkeys(pictures))}
        total = len(self.place)
        self.pictures = rng.multinomial(total, np.full(total, 1 / total), count).astype(float)  # [R, G]
        self.seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), count).astype(float)  # [R, S]

    def means(self, answered: Answered) -> Numbers:
        """[R + 1], the mean of each draw's marks; the last is that of the marks themselves."""
        places = np.array([self.place[name] for name in answered.pictures])
        counts = np.bincount(places, minlength=len(self.place)).astype(float)
        sums = np.stack([np.bincount(places, row, minlength=len(self.place)) for row in answered.marks])  # [S, G]
        with np.errstate(invalid="ignore"):  # a draw without a question of this kind says nothing
            drawn = (self.pictures @ sums.T * self.seeds).sum(1) / (self.pictures @ counts * self.seeds.sum(1))
        return np.append(drawn, answered.marks.mean())


def interval_of(means: Numbers) -> Interval:
    """Of what `Resamples.means` gives, or of a sum or difference of such."""
    low, high = np.nanquantile(means[:-1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(means[-1]), float(low), float(high))


def mean_of_kinds(means: Mapping[str, Numbers], kinds: Sequence[str]) -> Numbers:
    """The mean over kinds, each of which counts alike however many questions it has."""
    return np.mean([means[kind] for kind in kinds], axis=0)
