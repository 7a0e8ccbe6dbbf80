"""Token shards: safetensors files that say what is in them, and of what they were made."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from vilex.errors import InputError
from vilex.paths import replacing

FORMAT = "vilex-token-shard"


@dataclass(frozen=True)
class Contents:
    """What a token shard says of itself.

    Attributes:
        names: of its N images. stamps: something that changes when an image does, for each.
        refused: a line for each broken image, by its name; one without a name is of the whole shard.
        origin: what makes it what it is: the encoder's hash, the tokens kept, the images.
        part: the shard of a stream that it was made from, and that one's stamp; empty for a run of rows.
        cut: names of images that lost more than a third to the crop.
    """

    names: list[str]
    stamps: list[str]
    refused: list[tuple[str, str]]
    origin: dict[str, Any]
    part: tuple[str, str] = ("", "")
    cut: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TokenShard:
    """tokens: [N, n, d] in half precision; names: of the N images; refused: a line for each broken one.

    origin: what makes it what it is: the encoder's hash, the tokens kept, the images.
    """

    tokens: Tensor
    names: list[str]
    refused: list[str]
    origin: dict[str, Any] = field(default_factory=dict)


def load_shard(path: str | Path) -> TokenShard:
    """Read one token shard.

    Raises:
        InputError: the file is damaged or holds something else.
    """
    contents = read_contents(path)
    lines = [line for _, line in contents.refused]
    return TokenShard(load_file(path)["tokens"], contents.names, lines, contents.origin)


def read_contents(path: str | Path) -> Contents:
    """What a token shard says of itself, without its tokens; see `load_shard` for what raises."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: damaged token shard ({error}); remove it and encode again") from None
    if FORMAT not in metadata:
        raise InputError(f"{path}: no token shard; make one with `vilex encode --data`")
    try:
        found = Contents(**json.loads(metadata[FORMAT]))
        refused = [(name, line) for name, line in found.refused]
        part, stamp = found.part
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: a token shard of another version ({error}); remove it and encode again") from None
    return Contents(found.names, found.stamps, refused, found.origin, (part, stamp), found.cut)


def write_shard(path: Path, tokens: Tensor, contents: Contents) -> None:
    """Write a token shard, whole or not at all; tokens: [N, n, d].

    Raises:
        InputError: it cannot be written.
    """
    try:
        with replacing(path) as aside:
            save_file({"tokens": tokens.contiguous()}, aside, metadata={FORMAT: json.dumps(vars(contents))})
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: cannot be written ({reason}); what is done stays, the same command goes on"
        ) from None
