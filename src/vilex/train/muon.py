"""Muon for the weights of linear layers and AdamW for all else, as one optimiser.

Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon) steps along the nearest orthogonal matrix of the
momentum, scaled to the length of AdamW's steps (Moonlight, arXiv 2502.16982): AdamW's rates serve both.
"""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT


class Muon(torch.optim.Muon):
    """torch's Muon, but on CPUs in float32: torch's products are bfloat16's, which a CPU without that format takes a
    hundred times as long for.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-3, weight_decay: float = 0.1):
        super().__init__(params, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every matrix that has a gradient; returns what `closure` gives."""
        if any(p.is_cuda for group in self.param_groups for p in group["params"]):
            return super().step(closure)  # type: ignore[no-untyped-call]
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._move(matrix, matrix.grad, group)
        return loss

    @torch.no_grad()
    def _move(self, matrix: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum, lr = state["momentum_buffer"], float(group["lr"])
        momentum.lerp_(gradient, 1 - group["momentum"])
        step = gradient.lerp(momentum, group["momentum"])
        matrix.mul_(1 - lr * group["weight_decay"])
        matrix.add_(orthogonal(step, group["ns_coefficients"], group["ns_steps"]), alpha=-lr * _length(matrix))


def orthogonal(
    matrix: Tensor, coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315), steps: int = 5
) -> Tensor:
    """The orthogonal matrix near `matrix`, [m, n], by Newton-Schulz iteration: singular values that are not tiny come
    to between 0.7 and 1.2.

    Each iteration multiplies by a polynomial of the Gram matrix, so that all but the first and the last product are of
    its size: for the wide matrices of convolutions a third of the work.
    """
    wide = matrix.T if len(matrix) > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp_min(1e-7)
    gram = wide @ wide.T
    factor = polynomial = _polynomial(gram, *coefficients)
    for _ in range(steps - 1):
        gram = polynomial @ gram @ polynomial
        polynomial = _polynomial(gram, *coefficients)
        factor = polynomial @ factor
    found = factor @ wide
    return found.T if len(matrix) > matrix.shape[1] else found


def _polynomial(gram: Tensor, a: float, b: float, c: float) -> Tensor:
    """a + b G + c G^2, [m, m]."""
    found = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    found.diagonal().add_(a)
    return found


def _length(matrix: Tensor) -> float:
    """What makes an orthogonal step as long as AdamW's: 0.2 root mean square."""
    return 0.2 * max(matrix.shape) ** 0.5


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon and AdamW over one list of groups and one state; schedules and checkpoints see one optimiser.

    Args:
        groups: each with `params` and `lr`; one that holds both kinds of parameters becomes two, its matrices first.
        matrices: the parameters that Muon moves, [out, in] each.
        weight_decay: of both kinds.
    """

    def __init__(self, groups: list[dict[str, Any]], matrices: Collection[Tensor], weight_decay: float):
        split = [
            {**group, "params": params, "muon": muon}
            for group in groups
            for muon in (True, False)
            if (params := [p for p in group["params"] if (p in matrices) == muon])
        ]
        super().__init__(split, {})
        self._rules: dict[bool, torch.optim.Optimizer] = {}
        if own := self._groups(muon=True):
            self._rules[True] = Muon(own, weight_decay=weight_decay)
        if own := self._groups(muon=False):
            shapes = any(p.device.type == "meta" for group in own for p in group["params"])  # have no fused kernels
            self._rules[False] = torch.optim.AdamW(own, weight_decay=weight_decay, betas=(0.9, 0.99), fused=not shapes)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient, each by its rule; returns what `closure` gives."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for muon, rule in self._rules.items():
            rule.param_groups, rule.state = self._groups(muon), self.state  # a loaded state brings new ones
            rule.step()
        return loss

    def _groups(self, muon: bool) -> list[dict[str, Any]]:
        return [group for group in self.param_groups if group["muon"] is muon]
