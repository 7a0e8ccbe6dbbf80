"""What can be read off frozen vectors: by the nearest known ones, and by a linear classifier.

k-NN       the 20 nearest by cosine vote, each with weight exp(cosine / 0.07) (Wu et al. 2018, as DINO has it)
linear     multinomial logistic regression over standardised vectors, by L-BFGS to convergence; of several strengths
           of weight decay the one that is best on pictures that were left out of its training
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

NEIGHBOURS, TEMPERATURE = 20, 0.07
STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # of weight decay, strong to weak
ITERATIONS = 200
AT_ONCE = 1024  # vectors whose neighbours are looked for


def by_neighbours(known: Tensor, labels: Tensor, classes: int, asked: Tensor, count: int = NEIGHBOURS) -> Tensor:
    """The class that the nearest known vectors vote for: [N].

    Args:
        known: [K, D], labels: [K]. asked: [N, D]. count: how many vote; all, if there are fewer.
    """
    known, votes = F.normalize(known.float(), dim=1), F.one_hot(labels, classes).float()
    found = []
    for part in F.normalize(asked.float(), dim=1).split(AT_ONCE):
        near = (part @ known.T).topk(min(count, len(known)), dim=1)
        weights = (near.values / TEMPERATURE).exp()
        found.append((weights[:, :, None] * votes[near.indices]).sum(1).argmax(1))
    return torch.cat(found)


@dataclass(frozen=True)
class LinearProbe:
    """Logits of standardised vectors. weight: [C, D], bias: [C], mean, spread: [D]."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    spread: Tensor

    def __call__(self, vectors: Tensor) -> Tensor:
        """[..., D] -> [..., C]."""
        return F.linear((vectors.float() - self.mean) / self.spread, self.weight, self.bias)


def fit_linear(
    vectors: Tensor, labels: Tensor, classes: int, strength: float, start: LinearProbe | None = None
) -> LinearProbe:
    """Minimise the mean cross-entropy and `strength` / 2 times the squared weights.

    Args:
        vectors: [K, D], labels: [K]. start: where to begin; at nothing by default.
    """
    vectors = vectors.float()
    mean, spread = vectors.mean(0), vectors.std(0, correction=0).clamp_min(1e-6)
    x = (vectors - mean) / spread
    weight = start.weight.clone() if start else x.new_zeros(classes, x.shape[1])
    bias = start.bias.clone() if start else x.new_zeros(classes)
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=ITERATIONS, tolerance_grad=1e-5, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), labels) + strength / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return LinearProbe(weight.detach(), bias.detach(), mean, spread)


def fit_best(
    vectors: Tensor, labels: Tensor, classes: int, left_out: Tensor, their_labels: Tensor
) -> tuple[LinearProbe, float]:
    """The probe that is right most often on what was left out of its training, and its strength; of equals the
    strongest decay.
    """
    best: tuple[float, LinearProbe, float] | None = None
    probe: LinearProbe | None = None
    for strength in STRENGTHS:
        probe = fit_linear(vectors, labels, classes, strength, probe)
        right = (probe(left_out).argmax(1) == their_labels).float().mean().item()
        if best is None or right > best[0]:
            best = right, probe, strength
    assert best is not None
    return best[1], best[2]
