"""Probes against second computations."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.nn import functional as F

from vilex.eval.eyesight.probes import STRENGTHS, by_neighbours, fit_best, fit_linear


@pytest.fixture
def clouds():
    """Three classes of overlapping clouds: 90 vectors to learn from, 60 to ask."""
    torch.manual_seed(0)
    labels = torch.arange(150) % 3
    vectors = torch.randn(150, 12) + 1.2 * torch.randn(3, 12)[labels]
    return vectors[:90], labels[:90], vectors[90:], labels[90:]


def test_neighbours_vote_as_one_by_one(clouds):
    known, labels, asked, _ = clouds
    expected = []
    for one in asked.numpy():
        cosine = (known.numpy() @ one) / (np.linalg.norm(known.numpy(), axis=1) * np.linalg.norm(one))
        votes = np.zeros(3)
        for i in np.argsort(-cosine)[:7]:
            votes[labels[i]] += np.exp(cosine[i] / 0.07)
        expected.append(votes.argmax())
    assert by_neighbours(known, labels, 3, asked, 7).tolist() == expected
    assert by_neighbours(known[:2], labels[:2], 3, asked).unique().tolist() == [0, 1]  # fewer than vote


@pytest.mark.parametrize("strength", [1e-1, 1e-3])
def test_a_linear_probe_is_the_minimum(clouds, strength):
    known, labels, asked, _ = clouds
    probe = fit_linear(known, labels, 3, strength)
    x = (known.double() - known.double().mean(0)) / known.double().std(0, correction=0)

    def loss(flat):
        parameters = torch.tensor(flat, requires_grad=True)
        weight, bias = parameters[:36].reshape(3, 12), parameters[36:]
        value = F.cross_entropy(F.linear(x, weight, bias), labels) + strength / 2 * weight.square().sum()
        value.backward()
        return value.item(), parameters.grad.numpy()

    best = minimize(loss, np.zeros(39), jac=True, method="BFGS", options={"gtol": 1e-9})
    own = np.concatenate([probe.weight.flatten().double().numpy(), probe.bias.double().numpy()])
    assert loss(own)[0] == pytest.approx(best.fun, abs=1e-6)
    assert np.allclose(own[:36], best.x[:36], atol=2e-2)
    assert torch.allclose(probe(asked), F.linear((asked - probe.mean) / probe.spread, probe.weight, probe.bias))


def test_the_strength_is_the_best_on_what_was_left_out(clouds):
    known, labels, asked, truth = clouds
    probe, strength = fit_best(known, labels, 3, asked, truth)

    def right(one):
        return (one(asked).argmax(1) == truth).float().mean().item()

    alone = {one: right(fit_linear(known, labels, 3, one)) for one in STRENGTHS}
    assert right(probe) == pytest.approx(max(alone.values()), abs=1e-6)
    assert strength == next(one for one in STRENGTHS if alone[one] == max(alone.values()))


def test_a_value_that_never_changes_breaks_nothing():
    vectors = torch.cat([torch.ones(6, 1), torch.tensor([[0.0], [0], [0], [1], [1], [1]])], 1)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    assert (fit_linear(vectors, labels, 2, 1e-3)(vectors).argmax(1) == labels).all()
