"""Guidance as arithmetic: one set of weights over named conditions.

    CFG   eps(nothing) + w (eps([v, c]) - eps(nothing))         (Ho & Salimans 2022, arXiv 2207.12598)
    TFG   eps(v) + w (eps([v, c]) - eps(v))                     (ViLex, section 3.3)
    sum   eps(nothing) + cfg (eps(v) - eps(nothing)) + tfg (eps([v, c]) - eps(v))

The first two are the sum with tfg = cfg, and with cfg = 1. A weight of zero is never computed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vilex.checks import WEIGHTS, number
from vilex.errors import InputError
from vilex.prompt import Prompt
from vilex.t2i.base import Condition, FrozenT2I


@dataclass(frozen=True)
class Branch:
    """One condition: which images stay in the prompt, whether its words do, or the negative prompt.

    `nothing` is the negative (by default empty) prompt; v: images without words; c: words without
    images; [v, c]: both.
    """

    names: frozenset[str] = frozenset()
    words: bool = False
    negative: bool = False

    def prompt(self, whole: Prompt) -> Prompt:
        """What of a prompt this condition reads."""
        kept = whole.without(set(whole.names) - self.names)
        return kept if self.words else kept.image_only()


@dataclass(frozen=True)
class Guidance:
    """How strongly to steer.

    Args:
        cfg: weight of the image against nothing; 1 leaves `nothing` out.
        tfg: weight of the words against the image alone; the same as `cfg` if None: plain CFG.
        interval: share of the sampling, 0 (noise) to 1 (image), in which guidance acts.
    Raises:
        InputError: a weight is no number from -1000 to 1000, or the interval none within 0..1.
    """

    cfg: float = 1.0
    tfg: float | None = None
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cfg", number(self.cfg, "cfg", *WEIGHTS))
        if self.tfg is not None:
            object.__setattr__(self, "tfg", number(self.tfg, "tfg", *WEIGHTS))
        try:
            low, high = self.interval
        except (TypeError, ValueError):
            raise InputError(f"guidance interval: expected two numbers (from, to), got {self.interval!r}") from None
        interval = number(low, "guidance interval", 0, 1), number(high, "guidance interval", 0, 1)
        if interval[0] > interval[1]:
            raise InputError(f"guidance interval: expected 0 <= from <= to <= 1, got {low:g}, {high:g}")
        object.__setattr__(self, "interval", interval)

    def branches(self, prompt: Prompt, image_weights: Mapping[str, float] | None = None) -> dict[Branch, float]:
        """The weight of every condition that takes part, none of them zero; they sum to one."""
        tfg = self.cfg if self.tfg is None else self.tfg
        mixture = subsets(prompt.names, image_weights or {})
        weights: dict[Branch, float] = {Branch(negative=True): 1 - self.cfg}
        for names, share in mixture.items():
            for words, weight in ((False, self.cfg - tfg), (True, tfg)):
                branch = Branch(names, words and bool(prompt.words))
                weights[branch] = weights.get(branch, 0.0) + share * weight
        return {branch: weight for branch, weight in weights.items() if abs(weight) > 1e-9}

    def acts(self, progress: float) -> bool:
        """Whether guidance acts at a share of the sampling in [0, 1)."""
        return self.interval[0] <= progress < self.interval[1]


PLAIN = Guidance()


def subsets(names: tuple[str, ...], weights: Mapping[str, float]) -> dict[frozenset[str], float]:
    """Turn a weight per image (1 by default) into a mixture of prompts with fewer images.

    With the weights sorted, w1 >= w2 >= ..., the prompt with the first i images takes part with
    w_i - w_(i+1), and the words alone with 1 - w1. So one image at w gives w [v, c] + (1 - w) c, an
    image at 0 is absent, and weights over 1 push away from the words alone.
    """
    ordered = sorted(names, key=lambda name: -weights.get(name, 1.0))
    levels = [1.0, *(float(weights.get(name, 1.0)) for name in ordered), 0.0]
    shares = {frozenset(ordered[:i]): levels[i] - levels[i + 1] for i in range(len(levels) - 1)}
    return {chosen: share for chosen, share in shares.items() if abs(share) > 1e-9}


@dataclass(frozen=True)
class Mixture:
    """The conditions of B pictures in one batch.

    Attributes:
        condition: M >= B rows; row i < B is picture i's first condition.
        owner: [M], the picture each row belongs to.
        weight: [M].
        pictures: B.
    """

    condition: Condition
    owner: Tensor
    weight: Tensor
    pictures: int

    @classmethod
    def read(
        cls,
        t2i: FrozenT2I,
        branches: Sequence[Mapping[Branch, float]],
        prompts: Sequence[Prompt],
        tokens: Mapping[str, Tensor],
        negative: Prompt,
    ) -> "Mixture":
        """Every condition of every picture, each read once: first conditions first, then the others.

        Args:
            branches: of each picture, as from `Guidance.branches`.
            prompts: of each picture, `negative` of all; their slots have budgets (`set_budgets`).
            tokens: [n, d] by name; gradients flow to them.
        """
        ordered = [list(one.items()) for one in branches]
        rows = [(i, *one[0]) for i, one in enumerate(ordered)]
        rows += [(i, *item) for i, one in enumerate(ordered) for item in one[1:]]
        layouts: dict[tuple[Prompt, Branch], int] = {}
        for i, branch, _ in rows:
            layouts.setdefault((prompts[i], branch), len(layouts))
        against = replace(negative, against=True)
        texts = [against if branch.negative else branch.prompt(prompt) for prompt, branch in layouts]
        place = torch.tensor([layouts[prompts[i], branch] for i, branch, _ in rows], device=t2i.device)
        return cls(
            t2i.read(texts, [tokens] * len(texts)).select(place),
            torch.tensor([i for i, _, _ in rows], device=t2i.device),
            torch.tensor([weight for _, _, weight in rows], device=t2i.device),
            pictures=len(branches),
        )

    def combine(self, outputs: Tensor, channels: int | None = None) -> Tensor:
        """The weighted sum of each picture's predictions: [M, C, ...] -> [B, C, ...].

        Of the first `channels` channels (all of them by default); what follows is a learned variance, which is not
        mixed: it stays that of a picture's last condition, the one with most in it.

        Written as first + sum of w (other - first), which the weights' sum of one allows and which
        for CFG is the very arithmetic of diffusers.
        """
        if channels and outputs.shape[1] > channels:
            rows = torch.arange(len(outputs), device=outputs.device)
            last = torch.zeros_like(rows[: self.pictures]).scatter_reduce(0, self.owner, rows, "amax")
            return torch.cat([self.combine(outputs[:, :channels]), outputs[last, channels:]], dim=1)
        first, others, owner = outputs[: self.pictures], outputs[self.pictures :], self.owner[self.pictures :]
        if not len(others):
            return first
        weight = self.weight[self.pictures :].view(-1, *[1] * (outputs.ndim - 1)).to(outputs)
        return first.index_add(0, owner, weight * (others - first[owner]))
