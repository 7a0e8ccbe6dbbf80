import numpy as np
import pytest
import scipy.linalg
import torch

from vilex.errors import InputError
from vilex.eval.distances import Moments, frechet_distance, inception_score, kernel_distance


def gaussian(count, mean, deviation, seed):
    """[count, D] whose sample mean and covariance are exactly `mean` and diag(deviation^2)."""
    x = torch.randn(count, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return x * torch.tensor(deviation, dtype=torch.float64) + torch.tensor(mean, dtype=torch.float64)


def distance(a, b):
    return frechet_distance(Moments.of(a, "lite0"), Moments.of(b, "lite0"))


def test_frechet_distance_of_gaussians_is_the_closed_form():
    a = gaussian(500, [0.0, 1.0, 2.0], [1.0, 2.0, 0.5], seed=0)
    b = gaussian(400, [1.0, 1.0, 0.0], [2.0, 2.0, 1.5], seed=1)
    expected = (1 + 0 + 4) + (1 + 0 + 1)  # |m1 - m2|^2 + sum (s1 - s2)^2
    assert distance(a, b) == pytest.approx(expected, abs=1e-6)


def test_frechet_distance_equals_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(300, 24)) @ rng.normal(size=(24, 24)), rng.normal(size=(200, 24)) + 0.3
    covariances = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert distance(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected, rel=1e-3)


def test_a_set_too_small_says_how_many():
    a = torch.randn(100, 64)
    with pytest.raises(InputError, match="at least 128 images needed, got 100"):
        distance(a, a)


def test_reference_statistics_come_back_and_others_are_refused(tmp_path):
    moments, path = Moments.of(torch.randn(20, 4), "lite0"), tmp_path / "r.safetensors"
    moments.save(path, {"data": "somewhere"})
    again = Moments.load(path)
    assert again.count == 20 and torch.equal(again.outer, moments.outer) and again.features == "lite0"
    with pytest.raises(InputError, match="reference of lite0, pictures of inception"):
        frechet_distance(again, Moments.of(torch.randn(20, 4), "inception"))
    path.write_bytes(b"broken")
    with pytest.raises(InputError, match="no reference statistics"):
        Moments.load(path)


def test_kernel_distance_equals_the_unbiased_estimate():
    a, b = torch.randn(40, 8), torch.randn(40, 8) + 0.5
    values = []
    for seed in range(3):  # half of each set is drawn a hundred times: near the estimate of the whole
        values.append(kernel_distance(a, b, seed)[0])
    kernel = lambda x, y: (x @ y.T / 8 + 1) ** 3  # noqa: E731
    within = [(kernel(x, x).sum() - kernel(x, x).trace()) / (40 * 39) for x in (a, b)]
    expected = float(within[0] + within[1] - 2 * kernel(a, b).mean())
    assert np.mean(values) == pytest.approx(expected, rel=0.1)
    assert kernel_distance(a, b) == kernel_distance(a, b)


def test_inception_score_of_certain_and_even_classes_is_their_number():
    logits = torch.eye(4).repeat(250, 1) * 50
    assert inception_score(logits)[0] == pytest.approx(4, rel=0.02)
    assert inception_score(torch.zeros(100, 4))[0] == pytest.approx(1)
    with pytest.raises(InputError, match="at least 100 images needed, got 99"):
        inception_score(torch.zeros(99, 4))
