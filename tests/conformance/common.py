"""Image tokens that are words, and pictures compared."""

import numpy as np
import torch


def word_tokens(t2i, words):
    """Words as an image's tokens would be: every text encoder's own embedding of each, side by side."""
    return torch.stack([t2i.word(word) for word in words])


def same(a, b, most=1):
    return np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max() <= most
