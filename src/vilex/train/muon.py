"""Muon for the weights of linear layers and AdamW for all else, as one optimiser.

Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon) steps along the nearest orthogonal matrix of the
momentum, scaled to the length of AdamW's steps (Moonlight, arXiv 2502.16982): AdamW's rates serve both.
"""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

RENEWED = 2  # iterations after which a Gram matrix of few bits is computed anew


class Muon(torch.optim.Muon):
    """torch's Muon, but on CPUs its products are of a format that is given: torch's are bfloat16's, which a CPU without
    that format takes a hundred times as long for. There matrices of one shape are multiplied together.

    Args:
        dtype: of the products on CPUs; momentum and weights stay as they are.
    """

    def __init__(
        self, params: ParamsT, lr: float = 1e-3, weight_decay: float = 0.1, dtype: torch.dtype = torch.float32
    ):
        super().__init__(params, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.dtype = dtype

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every matrix that has a gradient; returns what `closure` gives."""
        if any(p.is_cuda for group in self.param_groups for p in group["params"]):
            return super().step(closure)  # type: ignore[no-untyped-call]
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(matrix.shape, []).append(matrix)
            for matrices in alike.values():
                self._move(matrices, group)
        return loss

    @torch.no_grad()
    def _move(self, matrices: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Move matrices of one shape."""
        lr = float(group["lr"])
        steps = torch.stack([self._aim(matrix, group["momentum"]) for matrix in matrices])
        steps = orthogonal(steps, group["ns_coefficients"], group["ns_steps"], self.dtype)
        for matrix, step in zip(matrices, steps, strict=True):
            matrix.mul_(1 - lr * group["weight_decay"])
            matrix.add_(step, alpha=-lr * _length(matrix))

    def _aim(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov's momentum of a matrix, its gradient taken in."""
        state, gradient = self.state[matrix], matrix.grad
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer = state["momentum_buffer"]
        buffer.lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum)


def orthogonal(
    matrices: Tensor,
    coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    steps: int = 5,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The orthogonal matrix near each of `matrices`, [..., m, n], by Newton-Schulz iteration: singular values that are
    not tiny come to between 0.7 and 1.2.

    Args:
        dtype: of the products; None: that of `matrices`, which is that of the result, too.

    Each iteration multiplies by a polynomial of the Gram matrix, so that all but the first and the last product are of
    its size: for the wide matrices of convolutions a third of the work. A Gram matrix squares what rounding does to
    small singular values; in fewer than 32 bits it is therefore computed anew after the second iteration, which keeps
    the result as near as the plain iteration in that format (tests/train/test_muon.py).
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    wide = (wide / wide.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)).to(dtype or matrices.dtype)
    found = wide.reshape(-1, *wide.shape[-2:])
    for part in (steps,) if wide.dtype.itemsize > 2 or steps <= RENEWED else (RENEWED, steps - RENEWED):
        found = _iterate(found, coefficients, part)
    found = found.reshape(wide.shape).to(matrices.dtype)
    return found.mT if tall else found


def _iterate(wide: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """Some iterations of a stack of matrices, [k, m, n], by one product with each matrix."""
    gram = wide @ wide.mT
    factor = polynomial = _polynomial(gram, *coefficients)
    for _ in range(steps - 1):
        gram = polynomial @ gram @ polynomial
        polynomial = _polynomial(gram, *coefficients)
        factor = polynomial @ factor
    return factor @ wide


def _polynomial(gram: Tensor, a: float, b: float, c: float) -> Tensor:
    """a + b G + c G^2, [k, m, m]."""
    found = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    found.diagonal(dim1=-2, dim2=-1).add_(a)
    return found


def _length(matrix: Tensor) -> float:
    """What makes an orthogonal step as long as AdamW's: 0.2 root mean square."""
    return 0.2 * max(matrix.shape) ** 0.5


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon and AdamW over one list of groups and one state; schedules and checkpoints see one optimiser.

    Args:
        groups: each with `params` and `lr`; one that holds both kinds of parameters becomes two, its matrices first.
        matrices: the parameters that Muon moves, [out, in] each.
        weight_decay: of both kinds. dtype: of Muon's products on CPUs.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        matrices: Collection[Tensor],
        weight_decay: float,
        dtype: torch.dtype = torch.float32,
    ):
        split = [
            {**group, "params": params, "muon": muon}
            for group in groups
            for muon in (True, False)
            if (params := [p for p in group["params"] if (p in matrices) == muon])
        ]
        super().__init__(split, {})
        self._rules: dict[bool, torch.optim.Optimizer] = {}
        if own := self._groups(muon=True):
            self._rules[True] = Muon(own, weight_decay=weight_decay, dtype=dtype)
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
