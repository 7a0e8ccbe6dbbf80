"""Image tokens as things to keep and calculate with: files, averages, spherical interpolation."""

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from vilex.checks import WEIGHTS, instance, number
from vilex.errors import InputError
from vilex.textual_inversion import is_inversion, learned_word, refuse_pickled

SUFFIX = ".safetensors"
FORMAT = "vilex-tokens"


class TokenWarning(UserWarning):
    """Tokens of unknown origin are used."""


@dataclass(frozen=True)
class TokenFile:
    """Tokens by name, [n, d] each, and where each came from (model, source file and its hash).

    Attributes:
        learned: whether they are a textual inversion's: the base model's words, and of no encoder.
    """

    tokens: dict[str, Tensor]
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)
    learned: bool = False


def counted(count: int) -> str:
    """A number of tokens as a title: "1 token", "16 tokens"."""
    return f"{count} token{'s' * (count > 1)}"


def checked_tokens(value: Tensor, name: str, width: int | None = None) -> Tensor:
    """An image's tokens [n, d], of [n, d] or [1, n, d].

    Args:
        width: d, if it is known.
    Raises:
        InputError: they are of another shape, no finite floating-point numbers, or none.
    """
    instance(value, Tensor, name, "tokens [n, d]")
    tokens = value[0] if value.ndim == 3 and len(value) == 1 else value
    if tokens.ndim != 2 or not tokens.numel() or width not in (None, tokens.shape[1]):
        raise InputError(f"{name}: expected tokens [n, {width or 'd'}] of one image, got {list(value.shape)}")
    if not tokens.is_floating_point():
        raise InputError(f"{name}: expected tokens of floating-point numbers, got {value.dtype}")
    if not tokens.isfinite().all():
        raise InputError(f"{name}: tokens are NaN or infinite; encode the image again")
    return tokens


def save_tokens(path: str | Path, tokens: Mapping[str, Tensor], provenance: Mapping[str, Mapping[str, Any]]) -> None:
    """Write tokens [n, d] by name as safetensors, provenance in the header.

    Raises:
        InputError: a name is no text, or the file cannot be written.
    """
    plain = {name: value.detach().float().cpu().contiguous() for name, value in tokens.items()}
    try:
        save_file(plain, path, metadata={"format": FORMAT, "provenance": json.dumps(provenance)})
    except (OSError, TypeError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: tokens cannot be written ({reason}); give another file") from None


def load_tokens(path: str | Path) -> TokenFile:
    """Read what `save_tokens` wrote, or a file of textual inversion; see `vilex.textual_inversion`.

    Raises:
        InputError: the file is missing, damaged or holds something else.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such token file; make one with `vilex encode`")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tokens = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: no readable token file ({error}); make one with `vilex encode`") from None
    inversion = metadata.get("format") != FORMAT and is_inversion(tokens)
    if inversion and tokens:
        tokens = learned_word(tokens, Path(path))
    elif metadata.get("format") != FORMAT or not tokens:
        raise InputError(f"{path}: holds no image tokens; make a token file with `vilex encode`")
    checked = {name: checked_tokens(value, f"{path}#{name}") for name, value in tokens.items()}
    return TokenFile(checked, _provenance(metadata.get("provenance", "{}"), path), inversion)


def split_token_source(source: str | PathLike[str]) -> tuple[Path, str] | None:
    """A token file and the name in it, of FILE.safetensors or FILE.safetensors#NAME; None if it is no such file."""
    head, marked, name = str(source).partition(f"{SUFFIX}#")
    path = Path(f"{head}{SUFFIX}") if marked else Path(source)
    return (path, name) if path.suffix == SUFFIX else None


def given_tokens(image: Any, name: str, width: int, encoder_sha256: str | None) -> dict[str, Tensor] | None:
    """Tokens [n, d] by name that are given as such, or as a file of them; None if it is a picture.

    Args:
        image: tokens [n, d] or [1, n, d]; a file of them, or one image of it, see `split_token_source`.
        name: of tokens that have none.
        width: d. encoder_sha256: of the encoder's weights; not compared if None.
    Raises:
        InputError: as `checked_tokens` and `load_tokens`; there is no such image, or another encoder made the tokens:
            to this one's base model they may be other words.
    """
    if isinstance(image, Tensor):
        return {name: checked_tokens(image, name, width)}
    if not isinstance(image, str | PathLike):
        return None
    source = split_token_source(image)
    if source is None:
        refuse_pickled(Path(image))
        return None
    path, one = source
    file = load_tokens(path)
    if one and one not in file.tokens:
        raise InputError(f"{path}: holds no image '{one}', only {', '.join(file.tokens)}")
    chosen = {one: file.tokens[one]} if one else file.tokens
    return fitting_tokens(replace(file, tokens=chosen), str(path), width, encoder_sha256)


def _warn(line: str) -> None:
    warnings.warn(line, TokenWarning, 6)


def fitting_tokens(
    file: TokenFile, name: str, width: int, encoder_sha256: str | None, say: Callable[[str], None] = _warn
) -> dict[str, Tensor]:
    """A file's tokens [n, d] by name, as a model of this width and encoder may use them.

    Args:
        name: the file's. width, encoder_sha256: see `given_tokens`.
        say: called with a line for each image whose tokens do not say which encoder made them.
    Raises:
        InputError: see `given_tokens`.
    """
    for key in () if file.learned else file.tokens:
        _check_encoder(file.provenance.get(key, {}).get("encoder_sha256"), encoder_sha256, f"{name}#{key}", say)
    return {key: checked_tokens(value, f"{name}#{key}", width) for key, value in file.tokens.items()}


def _check_encoder(made_by: Any, encoder_sha256: str | None, name: str, say: Callable[[str], None]) -> None:
    if encoder_sha256 is None or made_by == encoder_sha256:
        return
    if made_by is None:
        say(f"{name}: says not which encoder made it, and is used as this one's")
        return
    raise InputError(
        f"{name}: tokens of another encoder ({str(made_by)[:12]}, not {encoder_sha256[:12]}); "
        "encode the image with this model, or draw with that one"
    )


def _provenance(text: str, path: str | Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, dict) for value in found.values()):
        raise InputError(f"{path}: its provenance is damaged; make the token file again with `vilex encode`")
    return found


def average(tokens: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """The weighted mean of several images' tokens, each [n, d]; the shortest code sets n.

    Raises:
        InputError: there are no tokens, not a weight for each, weights of no number or of sum zero, or widths differ.
    """
    several = _of_one_width(tokens, "average")
    shares = [number(weight, "weight", *WEIGHTS) for weight in ([1.0] * len(several) if weights is None else weights)]
    if len(shares) != len(several) or sum(shares) == 0:
        raise InputError(f"average: expected a weight for each of {len(several)} images, not all zero, got {shares}")
    n = min(len(value) for value in several)
    weighted = torch.stack([weight * value[:n] for weight, value in zip(shares, several, strict=True)])
    return weighted.sum(0) / sum(shares)


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation of two images' tokens [n, d], token by token: a at t = 0, b at t = 1.

    Directions turn evenly and lengths change evenly (Shoemake 1985); nearly parallel tokens are
    interpolated linearly. Beyond 0..1 the turn goes on.

    Raises:
        InputError: `t` is no number from -1000 to 1000; widths differ, or tokens are of another shape.
    """
    t = number(t, "t", *WEIGHTS)
    a, b = _of_one_width([a, b], "slerp")
    n = min(len(a), len(b))
    a, b = a[:n], b[:n]
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    unit_a, unit_b = a / length_a.clamp_min(1e-12), b / length_b.clamp_min(1e-12)
    angle = (unit_a * unit_b).sum(-1, keepdim=True).clamp(-1, 1).acos()
    straight = torch.lerp(a, b, t)
    turned = (unit_a * ((1 - t) * angle).sin() + unit_b * (t * angle).sin()) / angle.sin().clamp_min(1e-12)
    return torch.where(angle < 1e-3, straight, turned * torch.lerp(length_a, length_b, t))


def _of_one_width(tokens: Sequence[Tensor], name: str) -> list[Tensor]:
    several = [checked_tokens(value, name) for value in tokens]
    if not several or len({value.shape[1] for value in several}) > 1:
        widths = ", ".join(str(value.shape[1]) for value in several)
        raise InputError(f"{name}: expected tokens [n, d] of one width d, got {widths or 'none'}")
    return several
