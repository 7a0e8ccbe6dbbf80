"""How sure a number is when both the pictures and the raters are a sample: a bootstrap over both.

Answers of one rater hang together, and so do those about one picture. Drawing either anew, with repetition, gives a
variance that takes the other for granted; what both count, the noise of single answers, is taken off once (Cameron,
Gelbach and Miller 2011; Owen 2007):

    variance = over pictures + over raters - over (picture, rater) cells

Drawing both at once would count that noise three times, and its intervals would be too wide. Shares get Wilson's
interval with so many answers as make that variance, so that it stays within 0 to 1 and is none of no width even
where all agree; other numbers get their value and t standard errors either way.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number and its interval. answers: how many it is of."""

    value: float
    low: float
    high: float
    answers: int


@dataclass(frozen=True)
class Groups:
    """Which answers are drawn together. of: [n], each answer's group by number, 0 to count - 1."""

    of: Whole
    count: int

    @classmethod
    def by(cls, *keys: Whole) -> "Groups":
        """Answers that are alike in all keys [n] are a group."""
        joint = np.zeros(len(keys[0]), dtype=np.int64)
        for key in keys:
            joint = joint * (int(key.max(initial=0)) + 1) + key
        found, of = np.unique(joint, return_inverse=True)
        return cls(of, len(found))

    def draw(self, draws: int, rng: np.random.Generator) -> Array:
        """How often each group comes up when as many as there are are drawn: [draws, count]."""
        return rng.multinomial(self.count, np.full(self.count, 1 / self.count), size=draws).astype(float)


@dataclass(frozen=True)
class Crossed:
    """Answers by picture, by rater, and by both."""

    picture: Groups
    rater: Groups
    cell: Groups

    @classmethod
    def by(cls, picture: Whole, rater: Whole) -> "Crossed":
        """picture, rater: [n], whose each answer is."""
        return cls(Groups.by(picture), Groups.by(rater), Groups.by(picture, rater))

    @property
    def fewest(self) -> int:
        """The number of pictures or of raters, whichever is smaller: the limit of what can be known."""
        return min(self.picture.count, self.rater.count)


def two_way_variance(
    statistic: Callable[[Groups, Array], Array], crossed: Crossed, seed: int, draws: int = DRAWS
) -> Array:
    """The variance of a statistic over pictures and raters.

    Args:
        statistic: of the answers with every group counted as often as a row of weights [draws, count] says: [draws,
            ...]; NaN where a draw has none.
    Returns:
        [...], NaN where there is but one picture or rater.
    """

    def over(groups: Groups, stream: int) -> Array:
        drawn = statistic(groups, groups.draw(draws, np.random.default_rng((seed, stream))))
        if groups.count < 2:
            return np.full(drawn.shape[1:], np.nan)
        variance: Array = np.nanvar(drawn, axis=0) * groups.count / (groups.count - 1)
        return variance

    noise = over(crossed.cell, 2)
    return np.maximum(over(crossed.picture, 0) + over(crossed.rater, 1) - noise, noise)


def closed_variance(score: Array, crossed: Crossed) -> float:
    """What `two_way_variance` of a mean tends to: sums of squares of the groups' deviations."""
    if crossed.fewest < 2:
        return float("nan")
    deviation = score - score.mean()

    def over(groups: Groups) -> float:
        sums = np.bincount(groups.of, deviation)
        return float(sums @ sums) / len(score) ** 2 * groups.count / (groups.count - 1)

    noise = over(crossed.cell)
    return max(over(crossed.picture) + over(crossed.rater) - noise, noise)


def mean_share(score: Array, crossed: Crossed, seed: int, draws: int = DRAWS) -> Estimate:
    """The mean of scores in 0..1 and its interval. score: [n]."""

    def means(groups: Groups, weights: Array) -> Array:
        total = weights @ np.bincount(groups.of, minlength=groups.count)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Array = (weights @ np.bincount(groups.of, score, groups.count)) / total
        return found

    if not len(score):
        return Estimate(np.nan, np.nan, np.nan, 0)
    variance = float(two_way_variance(means, crossed, seed, draws))
    return share_interval(float(score.mean()), variance, crossed.fewest, len(score))


def share_interval(share: float, variance: float, groups: int, answers: int) -> Estimate:
    """Wilson's interval of a share with a variance from so many groups; all of 0..1 where there are not two."""
    if groups < 2 or np.isnan(variance):
        return Estimate(share, 0.0, 1.0, answers)
    spread = share * (1 - share)
    known = min(answers, spread / variance) if variance > 0 and spread > 0 else groups
    t2 = quantile(groups) ** 2
    middle = (share + t2 / (2 * known)) / (1 + t2 / known)
    half = np.sqrt(t2 * (spread / known + t2 / (4 * known**2))) / (1 + t2 / known)
    return Estimate(share, max(0.0, float(middle - half)), min(1.0, float(middle + half)), answers)


def plain_interval(value: float, variance: float, groups: int, answers: int) -> Estimate:
    """A number and t standard errors either way; no bound where there are not two groups."""
    if groups < 2 or np.isnan(variance):
        return Estimate(value, -np.inf, np.inf, answers)
    half = quantile(groups) * float(np.sqrt(variance))
    return Estimate(value, value - half, value + half, answers)


def quantile(groups: int) -> float:
    """Student's t for LEVEL with groups - 1 degrees of freedom, by Cornish and Fisher's expansion; exact for few."""
    exact = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
    freedom = groups - 1
    if freedom <= len(exact):
        return exact[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
