"""What a design can settle, before anybody is asked: the design itself, answered by simulated raters.

A simulated rater r chooses the first of two methods on picture s with probability

    logistic(a + u_s + v_r),    u ~ N(0, PICTURES), v ~ N(0, RATERS)

where a makes the mean over all pictures and raters the win rate that is asked about. A study settles it if the
interval of `vilex.study.resampling` leaves out one half.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from vilex.study.dealing import METHOD, Deal, Easy, Trial, deal_trials
from vilex.study.resampling import Array, Crossed, Whole, closed_variance, share_interval

PICTURES, RATERS = 1.0, 0.5  # standard deviations of the logit between pictures and between raters
ENOUGH = 0.8
SIMULATIONS = 300
TRIED = (3, 5, 8, 12, 20, 30, 50, 80, 120)  # raters


@dataclass(frozen=True)
class Power:
    """How often so many raters settle a difference of one pair of methods."""

    raters: int
    answers: int
    settled: float


def power_of(slots: list[list[Trial]], raters: int, win_rate: float, seed: int) -> Power:
    """How often a design's first `raters` raters settle that the first pair's win rate is not one half."""
    pair, picture, rater = _cells(slots[:raters])
    chosen = pair == 0
    picture, rater = picture[chosen], rater[chosen]
    rng = np.random.default_rng((seed, raters))
    if not len(picture):
        return Power(raters, 0, 0.0)
    settled, crossed = 0, Crossed.by(picture, rater)
    for _ in range(SIMULATIONS):
        score = simulate_choices(win_rate, picture, rater, rng)
        variance = closed_variance(score, crossed)
        found = share_interval(float(score.mean()), variance, crossed.fewest, len(score))
        settled += not found.low <= 0.5 <= found.high
    return Power(raters, len(picture), settled / SIMULATIONS)


def power_table(
    sources: int, pairs: list[tuple[int, int]], deal: Deal, raters: int, win_rate: float, seed: int
) -> list[Power]:
    """The power of the design with other numbers of raters, up to the first that is enough; `raters` among them."""
    most = max(*TRIED, raters)
    slots = deal_trials(sources, pairs, Deal(deal.comparisons, 0, 0, 0), [Easy(0, 0, 0)], most, seed)
    found = []
    for count in sorted({*TRIED, raters}):
        found.append(power_of(slots, count, win_rate, seed))
        if found[-1].settled >= ENOUGH and count >= raters:
            break
    return found


def simulate_choices(
    win_rate: float, picture: Whole, rater: Whole, rng: np.random.Generator,
    spread: tuple[float, float] = (PICTURES, RATERS),
) -> Array:  # fmt: skip
    """1 where a simulated rater chose the first method, else 0: [n].

    Args:
        win_rate: the mean over all pictures and raters there could be.
        spread: standard deviations between pictures, between raters.
    """
    own = rng.normal(0, spread[0], picture.max() + 1)[picture] + rng.normal(0, spread[1], rater.max() + 1)[rater]
    chance = 1 / (1 + np.exp(-(logit_of_mean(win_rate, float(np.hypot(*spread))) + own)))
    return (rng.random(len(chance)) < chance).astype(float)


@cache
def logit_of_mean(mean: float, deviation: float) -> float:
    """a, so that the mean of logistic(a + N(0, deviation)) is as given."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    low, high = -50.0, 50.0
    for _ in range(80):
        middle = (low + high) / 2
        if float(weights @ (1 / (1 + np.exp(-np.clip(middle + deviation * nodes, -500, 500))))) < mean:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _cells(slots: list[list[Trial]]) -> tuple[Whole, Whole, Whole]:
    """Pair (by number, in the order they first appear sorted), source and rater of every comparison."""
    rows = [
        (tuple(sorted((trial.left.number, trial.right.number))), trial.source, rater)
        for rater, trials in enumerate(slots)
        for trial in trials
        if trial.kind == "main" and trial.left.what == METHOD
    ]
    pairs = sorted({pair for pair, _, _ in rows})
    return (
        np.array([pairs.index(pair) for pair, _, _ in rows], dtype=np.int64),
        np.array([source for _, source, _ in rows], dtype=np.int64),
        np.array([rater for _, _, rater in rows], dtype=np.int64),
    )
