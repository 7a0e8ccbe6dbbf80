"""Muon for the weights of linear layers and AdamW for all else, as one optimiser."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor


class MuonWithAdamW(torch.optim.Optimizer):
    """torch's Muon and AdamW over one list of groups and one state; schedules and checkpoints see one optimiser.

    Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon) steps along the nearest orthogonal matrix of the
    momentum, scaled to the length of AdamW's steps (Moonlight, arXiv 2502.16982): AdamW's rates serve both.

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
            self._rules[True] = torch.optim.Muon(own, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
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
