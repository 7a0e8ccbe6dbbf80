"""Scores by hand, and their intervals."""

import numpy as np
import pytest

from vilex.eval.eyesight.scores import Overlaps, Patterned, Shares


def test_an_overlap_is_of_all_pixels_together_then_of_classes():
    inside = np.array([[[2, 0, 0], [1, 3, 0]]], dtype=float)  # one seed, two pictures, three classes
    joined = np.array([[[4, 1, 0], [2, 3, 0]]], dtype=float)
    found = Overlaps(inside, joined).interval()
    assert found["mean"] == pytest.approx((3 / 6 + 3 / 4) / 2) and found["seeds"] == [found["mean"]]
    assert found["low"] <= found["mean"] <= found["high"]


def test_patterns_count_alike_however_many_pairs_they_have():
    score = Patterned(np.array([1, 1, 1, 1, 0.0]), np.array([0, 0, 0, 0, 1]))
    assert score.interval()["mean"] == 0.5 and score.interval()["low"] == score.interval()["high"] == 0.5


@pytest.mark.parametrize("kind", ["shares", "overlaps", "patterned"])
def test_differences_are_picture_by_picture(kind):
    rng = np.random.default_rng(0)
    worse = (rng.random((2, 200)) < 0.5).astype(float)
    better = np.maximum(worse, rng.random((2, 200)) < 0.1)  # of the same pictures a few more
    if kind == "shares":
        first, second = Shares(better), Shares(worse)
    elif kind == "patterned":
        pattern = np.arange(200) % 9
        first, second = Patterned(better[0], pattern), Patterned(worse[0], pattern)
    else:
        joined = np.ones((2, 200, 2))
        first, second = (Overlaps(np.stack([one, 1 - 0 * one], -1), joined) for one in (better, worse))
    found = first.over(second)
    assert 0 < found["low"] < found["mean"] < found["high"]
    assert found["mean"] == pytest.approx(first.interval()["mean"] - second.interval()["mean"])
    apart = first.interval()["high"] - first.interval()["low"]
    assert found["high"] - found["low"] < 0.7 * apart  # what both get wrong is no difference
    same = first.over(first)
    assert same["mean"] == same["low"] == same["high"] == 0


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        found = Patterned((rng.random(135) < 0.4).astype(float), np.arange(135) % 9).interval()
        held += found["low"] <= 0.4 <= found["high"]
    assert 0.9 <= held / 200 <= 0.99
