"""Image tokens as things to keep and calculate with: files, averages, spherical interpolation."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from vilex.errors import InputError


@dataclass(frozen=True)
class TokenFile:
    """Tokens by name, [n, d] each, and where each came from (model, source file and its hash)."""

    tokens: dict[str, Tensor]
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)


def counted(count: int) -> str:
    """A number of tokens as a title: "1 token", "16 tokens"."""
    return f"{count} token{'s' * (count > 1)}"


def save_tokens(path: str | Path, tokens: dict[str, Tensor], provenance: dict[str, dict[str, Any]]) -> None:
    """Write tokens [n, d] by name as safetensors, provenance in the header."""
    plain = {name: value.detach().float().cpu().contiguous() for name, value in tokens.items()}
    save_file(plain, path, metadata={"format": "vilex-tokens", "provenance": json.dumps(provenance)})


def load_tokens(path: str | Path) -> TokenFile:
    """Read what `save_tokens` wrote.

    Raises:
        InputError: the file is missing, damaged or holds something else.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tokens = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: no readable token file ({error}); make one with `vilex encode`") from None
    if metadata.get("format") != "vilex-tokens" or any(value.ndim != 2 for value in tokens.values()):
        raise InputError(f"{path}: holds no image tokens; make a token file with `vilex encode`")
    return TokenFile(tokens, json.loads(metadata["provenance"]))


def average(tokens: list[Tensor], weights: list[float] | None = None) -> Tensor:
    """The weighted mean of several images' tokens, each [n, d]; the shortest code sets n."""
    weights = weights or [1.0] * len(tokens)
    if len(weights) != len(tokens) or not tokens or sum(weights) == 0:
        raise InputError(f"average: expected a weight for each of {len(tokens)} images, not all zero, got {weights}")
    n = min(len(value) for value in tokens)
    weighted = torch.stack([weight * value[:n] for weight, value in zip(weights, tokens, strict=True)])
    return weighted.sum(0) / sum(weights)


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation of two images' tokens [n, d], token by token: a at t = 0, b at t = 1.

    Directions turn evenly and lengths change evenly (Shoemake 1985); nearly parallel tokens are
    interpolated linearly.
    """
    n = min(len(a), len(b))
    a, b = a[:n], b[:n]
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    unit_a, unit_b = a / length_a.clamp_min(1e-12), b / length_b.clamp_min(1e-12)
    angle = (unit_a * unit_b).sum(-1, keepdim=True).clamp(-1, 1).acos()
    straight = torch.lerp(a, b, t)
    turned = (unit_a * ((1 - t) * angle).sin() + unit_b * (t * angle).sin()) / angle.sin().clamp_min(1e-12)
    return torch.where(angle < 1e-3, straight, turned * torch.lerp(length_a, length_b, t))
