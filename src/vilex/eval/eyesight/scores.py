"""Scores that keep what each picture gave, so that two eyes are compared picture by picture.

Intervals are 95%, by a bootstrap over pictures (of MMVP-VLM over pairs within each pattern) of the mean over seeds.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vilex.eval.measures import interval

DRAWS = 2000


class Score(Protocol):
    """A number of some eyes, and how far it is from another's."""

    def interval(self) -> dict[str, Any]:
        """mean, low, high, and seeds: each seed's own."""

    def over(self, other: Any) -> dict[str, Any]:
        """The same of this minus another's, both of the same pictures and seeds."""


@dataclass(frozen=True)
class Shares:
    """values: [seeds, pictures], whether (or what part of) each picture was right."""

    values: np.ndarray

    def interval(self) -> dict[str, Any]:
        """See `Score`."""
        return interval(self.values, DRAWS)

    def over(self, other: "Shares") -> dict[str, Any]:
        """See `Score`."""
        return interval(self.values - other.values, DRAWS)


@dataclass(frozen=True)
class Overlaps:
    """Mean intersection over union, of all pictures' pixels together and then over classes.

    inside, joined: [seeds, pictures, classes], pixels of a class that are in both, and in either.
    """

    inside: np.ndarray
    joined: np.ndarray

    def interval(self) -> dict[str, Any]:
        """See `Score`."""
        return _ends(self._drawn(_weights(self.inside.shape[1])), self._means())

    def over(self, other: "Overlaps") -> dict[str, Any]:
        """See `Score`."""
        weights = _weights(self.inside.shape[1])
        return _ends(self._drawn(weights) - other._drawn(weights), self._means() - other._means())

    def _means(self) -> np.ndarray:
        return self._of(self.inside.sum(1), self.joined.sum(1))

    def _drawn(self, weights: np.ndarray) -> np.ndarray:
        """[draws], each the mean over seeds."""
        return np.mean([self._of(weights @ i, weights @ j) for i, j in zip(self.inside, self.joined, strict=True)], 0)

    @staticmethod
    def _of(inside: np.ndarray, joined: np.ndarray) -> np.ndarray:
        """[..., classes] -> [...]; classes that are nowhere do not count."""
        there = joined > 0
        shares = np.divide(inside, joined, out=np.zeros(joined.shape), where=there)
        return shares.sum(-1) / np.maximum(there.sum(-1), 1)


@dataclass(frozen=True)
class Patterned:
    """The mean over patterns of the share of pairs that are right. values: [pairs], pattern: [pairs], by number."""

    values: np.ndarray
    pattern: np.ndarray

    def interval(self) -> dict[str, Any]:
        """See `Score`."""
        return _ends(self._drawn(), self._by_pattern().mean(keepdims=True))

    def over(self, other: "Patterned") -> dict[str, Any]:
        """See `Score`."""
        return Patterned(self.values - other.values, self.pattern).interval()

    def _by_pattern(self) -> np.ndarray:
        return np.array([self.values[self.pattern == one].mean() for one in np.unique(self.pattern)])

    def _drawn(self) -> np.ndarray:
        rng = np.random.default_rng(0)
        found = []
        for one in np.unique(self.pattern):
            own = self.values[self.pattern == one]
            found.append(own[rng.integers(0, len(own), (DRAWS, len(own)))].mean(1))
        return np.mean(found, 0)


def _weights(pictures: int) -> np.ndarray:
    """How often each picture is drawn: [draws, pictures]."""
    return np.random.default_rng(0).multinomial(pictures, np.full(pictures, 1 / pictures), DRAWS).astype(float)


def _ends(drawn: np.ndarray, seeds: np.ndarray) -> dict[str, Any]:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"mean": float(seeds.mean()), "low": float(low), "high": float(high), "seeds": seeds.tolist()}
