"""Pictures that were drawn twice, compared."""

import numpy as np


def same(a, b, within=1):
    """Whether two pictures, or two lists of them, are one drawing.

    The kernels of some processors sum in an order that follows where in memory the numbers lie. What is computed
    twice from equal numbers then differs in its last bits, and a value at the edge of rounding to 8 bits by one.
    """
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype == np.uint8 and a.size
    return a.shape == b.shape and np.abs(a.astype(int) - b).max() <= within
