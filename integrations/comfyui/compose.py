"""Words and images as ComfyUI's tokens: by text encoder, chunks of (id or embedding, weight).

ComfyUI's own tokenizers do all that they do for words: weights in brackets, chunks of long prompts, padding. Each
image token is given to them as an ordinary word, and its embedding then takes the place of that word's id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vilex.errors import InputError
from vilex.prompt import Slot, parse

WIDTHS = {"l": 768, "g": 1280, "h": 1024, "t5xxl": 4096}  # of ComfyUI's text encoders
FAMILIES = (("l",), ("h",), ("l", "g"), ("l", "g", "t5xxl"), ("l", "t5xxl"), ("t5xxl",))  # in an image token's order
PLACEHOLDERS = ("house", "water", "music", "paper", "river", "photo", "style", "the", "of", "and", "in")

Tokens = dict[str, list[list[tuple[Any, float]]]]
Conditioning = list[list[Any]]


@dataclass(frozen=True)
class Composed:
    """A prompt's tokens, and those of its images alone."""

    prompt: Tokens
    alone: Tokens


def compose(clip: Any, text: str, images: Mapping[str, Tensor]) -> list[Composed]:
    """A prompt for each picture of a batch.

    Args:
        clip: ComfyUI's CLIP. text: as "a (<a:4>:1.3) in the snow".
        images: tokens by name, [B, n, d]; a batch of one goes with all of another.
    Raises:
        InputError: an image is not connected or not named, has too few tokens, another width than the text
            encoders, or another batch; or the text encoders are not supported.
    """
    slots = [part for part in parse(text, emphasis=False).parts if isinstance(part, Slot)]
    _check_names(slots, images)
    if not slots:
        return [Composed(clip.tokenize(text), clip.tokenize(""))]
    counts = [_count(slot, images[slot.name]) for slot in slots]
    columns = _columns(clip.tokenize(""), {name: value.shape[-1] for name, value in images.items()})
    word, ids = _placeholder(clip, text, list(columns))
    prompt = clip.tokenize(_with_placeholders(text, word, counts))
    weights = _weights(prompt[next(iter(columns))], ids[next(iter(columns))])
    alone = clip.tokenize(_images_alone(word, counts, weights))
    composed = []
    for i in range(_batch(images)):
        rows = torch.cat(
            [images[slot.name][i % len(images[slot.name]), :count] for slot, count in zip(slots, counts, strict=True)]
        )
        composed.append(Composed(*(_filled(tokens, ids, rows, columns) for tokens in (prompt, alone))))
    return composed


def stack(batch: Sequence[Conditioning]) -> Conditioning:
    """Conditionings of one picture each, [[[1, L, d], {...}]], as one of all of them, [[[B, L, d], {...}]]."""
    if len(batch) == 1:
        return batch[0]
    stacked = []
    for entries in zip(*batch, strict=True):
        more = {
            key: torch.cat([extra[key] for _, extra in entries]) if isinstance(value, Tensor) else value
            for key, value in entries[0][1].items()
        }
        stacked.append([torch.cat([features for features, _ in entries]), more])
    return stacked


def _check_names(slots: list[Slot], images: Mapping[str, Tensor]) -> None:
    names = {slot.name for slot in slots}
    for name in sorted(names - images.keys()):
        raise InputError(f"prompt: <{name}> is not connected; connect tokens to the input '{name}'")
    for name in sorted(images.keys() - names):
        raise InputError(f"prompt: '{name}' is connected, but the prompt has no <{name}>; name it, or take it away")


def _count(slot: Slot, tokens: Tensor) -> int:
    if slot.count and slot.count > tokens.shape[1]:
        raise InputError(f"prompt: <{slot.name}> has {tokens.shape[1]} tokens, got a budget of {slot.count}")
    return slot.count or tokens.shape[1]


def _batch(images: Mapping[str, Tensor]) -> int:
    """B of all images together."""
    sizes = {len(value) for value in images.values()}
    if len(sizes - {1}) > 1:
        raise InputError(f"prompt: images in batches of {' and '.join(map(str, sorted(sizes)))}; give equal batches")
    return max(sizes)


def _columns(empty: Tokens, widths: Mapping[str, int]) -> dict[str, slice]:
    """Each text encoder's columns of an image token, whatever order ComfyUI names the encoders in."""
    for name, width in widths.items():
        starts = {}
        for family in FAMILIES:
            if sum(WIDTHS[one] for one in family) == width and set(empty) <= set(family):
                starts = {one: sum(WIDTHS[before] for before in family[:i]) for i, one in enumerate(family)}
        if not starts:
            wanted = " + ".join(f"{one} {WIDTHS.get(one, '(not supported)')}" for one in sorted(empty))
            raise InputError(
                f"<{name}>: tokens have width {width}, the text encoders {wanted}; use an encoder of this base model"
            )
    return {one: slice(starts[one], starts[one] + WIDTHS[one]) for one in starts if one in empty}


def _placeholder(clip: Any, text: str, names: list[str]) -> tuple[str, dict[str, int]]:
    """A word that is one token to every text encoder and not in the text, and its ids."""
    empty = {name: chunks[0] for name, chunks in clip.tokenize("").items()}
    for word in PLACEHOLDERS:
        if word in text.lower():
            continue
        found = {name: _single(chunks[0], empty[name]) for name, chunks in clip.tokenize(word).items()}
        if all(found[name] is not None for name in names):
            return word, found
    raise InputError(f"prompt: has all of the words {', '.join(PLACEHOLDERS)}; leave one of them out")


def _single(chunk: list[tuple[Any, float]], empty: list[tuple[Any, float]]) -> int | None:
    """The one id that a text's chunk has beside what an empty text's has; None if there are several."""
    start = next((i for i, (one, other) in enumerate(zip(chunk, empty, strict=False)) if one != other), None)
    if start is None or len(chunk) < start + 2 or chunk[start + 1] != empty[start]:
        return None
    return int(chunk[start][0])


def _with_placeholders(text: str, word: str, counts: list[int]) -> str:
    left = iter(counts)
    return " ".join(
        part if isinstance(part, str) else " ".join([word] * next(left)) for part in parse(text, emphasis=False).parts
    )


def _images_alone(word: str, counts: list[int], weights: list[float]) -> str:
    """Every image's placeholders with the weight they have in the prompt."""
    parts, start = [], 0
    for count in counts:
        words = " ".join([word] * count)
        parts.append(words if weights[start] == 1.0 else f"({words}:{weights[start]!r})")
        start += count
    return " ".join(parts)


def _weights(chunks: list[list[tuple[Any, float]]], placeholder: int) -> list[float]:
    return [weight for chunk in chunks for token, weight in chunk if _is(token, placeholder)]


def _filled(tokens: Tokens, ids: Mapping[str, int], rows: Tensor, columns: Mapping[str, slice]) -> Tokens:
    """Image tokens [n, d] in the places of their placeholders, each text encoder's own columns of them."""
    found: Tokens = {}
    for name, chunks in tokens.items():
        if sum(_is(token, ids[name]) for chunk in chunks for token, _ in chunk) != len(rows):
            raise InputError(f"prompt: text encoder {name} has another number of places than {len(rows)} image tokens")
        left = iter(rows[:, columns[name]])
        found[name] = [
            [(next(left) if _is(token, ids[name]) else token, weight) for token, weight in chunk] for chunk in chunks
        ]
    return found


def _is(token: Any, placeholder: int) -> bool:
    return not isinstance(token, (Tensor, dict)) and token == placeholder
