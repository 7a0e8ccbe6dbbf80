"""The stages' optimisers: AdamW, or Muon for the matrices and AdamW for the rest, and the weights' average.

Muon is that of `vilex train`. A convolution is a matrix of its output channels by all else.
"""

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from vilex.train.muon import Muon

WEIGHT_DECAY = 0.01


class Optimizer:
    """One learning rate, of which `step` takes a share; the state goes by the parameters' names.

    Args:
        named: all parameters that train. Tables of embeddings are no matrices.
        rule: `adamw` or `muon`.
        slow: a parameter that learns at a tenth of the rate, if any.
    """

    def __init__(
        self, named: dict[str, nn.Parameter], lr: float, rule: str = "adamw", slow: nn.Parameter | None = None
    ):
        if rule not in ("adamw", "muon"):
            raise ValueError(f"optimizer: expected adamw or muon, got {rule!r}")
        self.named = named
        matrices = [p for name, p in named.items() if rule == "muon" and p.ndim in (2, 4) and "embed" not in name]
        self.matrices = {p: nn.Parameter(_matrix(p)) for p in matrices}
        rest = [p for p in named.values() if p not in self.matrices]
        groups = [
            {"params": [p for p in rest if p is not slow], "lr": lr},
            {"params": [p for p in rest if p is slow], "lr": lr / 10},
        ]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.99), fused=True)
        ]
        if self.matrices:
            self.parts.append(Muon(list(self.matrices.values()), lr=lr, weight_decay=WEIGHT_DECAY))
        self.rates = [[group["lr"] for group in part.param_groups] for part in self.parts]

    def multiply_in(self, dtype: torch.dtype) -> None:
        """Let Muon multiply in a format on CPUs; float32 until it is told."""
        for part in self.parts:
            if isinstance(part, Muon):
                part.dtype = dtype

    def step(self, share: float) -> None:
        """Update the parameters at a share of the learning rate and drop their gradients."""
        for part, rates in zip(self.parts, self.rates, strict=True):
            for group, rate in zip(part.param_groups, rates, strict=True):
                group["lr"] = rate * share
        for parameter, matrix in self.matrices.items():
            matrix.grad = None if parameter.grad is None else _matrix(parameter.grad, parameter)
        for part in self.parts:
            part.step()
        for parameter in self.named.values():
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Tensors by `parameter/key`."""
        found = {}
        for name, parameter in self.named.items():
            for key, value in self._state_of(parameter).items():
                found[f"{name}/{key}"] = value
        return found

    def load(self, state: dict[str, Tensor]) -> None:
        """Undo `state`."""
        for path, value in state.items():
            name, key = path.rsplit("/", 1)
            parameter = self.named[name]
            own = self._state_of(parameter)
            like = self.matrices.get(parameter, parameter)
            own[key] = torch.empty_like(like).copy_(value) if value.shape == like.shape else value

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        matrix = self.matrices.get(parameter)
        return self.parts[0].state[parameter] if matrix is None else self.parts[1].state[matrix]


class Share:
    """Some of a model's parameters, with their optimiser and their average."""

    def __init__(self, named: dict[str, nn.Parameter], lr: float, rule: str, slow: nn.Parameter | None, decay: float):
        self.names, self.parameters = list(named), list(named.values())
        self.optimizer = Optimizer(named, lr, rule, slow)
        self.ema = EMAModel(self.parameters, decay=decay, use_ema_warmup=True, power=0.75, foreach=True)

    def norm(self) -> Tensor:
        """Of all its gradients together."""
        return nn.utils.get_total_norm(self._gradients(), foreach=True)

    def step(self, rate: float, scale: float) -> None:
        """Update at a share of the learning rate, by `scale` times the gradients, and take it into the average."""
        if scale < 1:
            torch._foreach_mul_(self._gradients(), scale)
        self.optimizer.step(rate)
        self.ema.step(self.parameters)

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]


def shares_of(named: dict[str, nn.Parameter], count: int) -> list[dict[str, nn.Parameter]]:
    """Parameters in `count` shares of about one size, and of each shape about as many."""
    shares: list[dict[str, nn.Parameter]] = [{} for _ in range(count)]
    sizes = [0] * count
    for name in sorted(named, key=lambda name: (-named[name].numel(), named[name].shape)):
        lightest = sizes.index(min(sizes))
        shares[lightest][name] = named[name]
        sizes[lightest] += named[name].numel()
    return shares


def _matrix(weight: Tensor, like: Tensor | None = None) -> Tensor:
    """A view [output channels, all else] of a weight, or of a gradient in its weight's order."""
    reference = weight if like is None else like
    with torch.no_grad():
        if weight.ndim == 2:
            return weight.detach()
        if reference.is_contiguous():
            return weight.detach().contiguous().view(len(weight), -1)
        return weight.detach().permute(0, 2, 3, 1).contiguous().view(len(weight), -1)
