"""Bradley and Terry's strengths of more than two methods, from who was chosen over whom.

    P(i over j) = s_i / (s_i + s_j)

fitted by Hunter's MM steps (2004), many bootstrap draws at once. A tie is half a win for each. Every pair that met
is given half a win either way besides, so that a method which always wins has a finite strength.
"""

import numpy as np

from vilex.study.resampling import Array

PRIOR = 0.5  # wins either way that every pair which met is given
STEPS = 2000


def fit_strengths(wins: Array, prior: float = PRIOR) -> Array:
    """Logarithms of the strengths, their mean 0.

    Args:
        wins: [..., m, m], how often the row's method was chosen over the column's.
    Returns:
        [..., m]; NaN where the methods did not all meet, directly or by way of others.
    """
    met = (wins + wins.swapaxes(-1, -2)) > 0
    wins = wins + prior * met
    games = wins + wins.swapaxes(-1, -2)
    won = wins.sum(-1)
    strength = np.ones(won.shape)
    for _ in range(STEPS):
        both = strength[..., :, None] + strength[..., None, :]
        with np.errstate(invalid="ignore", divide="ignore"):
            following = won / (games / both).sum(-1)
            following /= np.exp(np.log(following).mean(-1, keepdims=True))
        if np.nanmax(np.abs(following - strength), initial=0) < 1e-10:
            strength = following
            break
        strength = following
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = np.log(strength)
    return np.where(_connected(met)[..., None], found, np.nan)


def _connected(met: np.ndarray) -> np.ndarray:
    """Whether every method can be reached from the first: [...]."""
    count = met.shape[-1]
    reach = met | np.eye(count, dtype=bool)
    for _ in range(max(1, count.bit_length())):
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    return np.asarray(reach.all((-1, -2)))
