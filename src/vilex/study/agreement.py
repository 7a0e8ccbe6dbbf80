"""Whether raters agree: with each other, and with themselves.

Krippendorff's alpha for nominal values ("Computing Krippendorff's Alpha-Reliability", 2011): 1 is full agreement,
0 what chance would give, with any number of raters, each of whom may have seen any part.

    alpha = 1 - D_o / D_e,    D_o = sum_{c != k} o_ck / n,    D_e = sum_{c != k} n_c n_k / (n (n - 1))

o_ck counts pairs of values c and k that two raters gave to one unit, each unit with m values weighted 1 / (m - 1).
"""

import numpy as np

from vilex.study.resampling import Array, Groups, Whole


def nominal_alpha(unit: Whole, value: Whole, weight: Array | None = None) -> float:
    """Krippendorff's alpha.

    Args:
        unit, value: [n], what was judged and how, an entry for each answer; values are 0, 1, 2, ...
        weight: [units], how often each unit counts, in the order of sorted units.
    Returns:
        NaN where no unit has two answers, or all answers are the same: then nothing tells agreement from chance.
    """
    if not len(unit):
        return float("nan")
    groups = Groups.by(unit)
    counts = unit_counts(groups, value)
    return float(alpha_of(counts, np.ones((1, groups.count)) if weight is None else weight[None])[0])


def unit_counts(groups: Groups, value: Whole) -> Array:
    """How often each unit got each value: [units, values]."""
    counts = np.zeros((groups.count, int(value.max()) + 1))
    np.add.at(counts, (groups.of, value), 1)
    return counts


def alpha_of(counts: Array, weights: Array) -> Array:
    """Alpha with every unit counted as often as a row says. counts: [units, values], weights: [draws, units]."""
    given = counts.sum(1)
    paired = given > 1
    counts, given, weights = counts[paired], given[paired], weights[:, paired]
    agreeing = (counts * (counts - 1)).sum(1) / (given - 1)
    total = weights @ given
    by_value = weights @ counts
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = 1 - (weights @ agreeing) / total
        expected = 1 - (by_value * (by_value - 1)).sum(1) / (total * (total - 1))
        found: Array = 1 - observed / expected
    return np.where(expected > 0, found, np.nan)
