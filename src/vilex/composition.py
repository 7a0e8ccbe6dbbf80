"""What a text encoder reads of a prompt: [BOS] words and image tokens [EOS] and the family's own padding.

An ordinary word's id holds each image token's place, and the tokens go in as embeddings.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from vilex.errors import InputError
from vilex.prompt import Prompt, PromptWarning, Slot

_TOKENIZING = Lock()  # tokenizers of Rust break where two threads come at once


@dataclass(frozen=True)
class Frame:
    """What a text encoder reads around a prompt: [BOS] and [EOS] for CLIP, [EOS] alone for T5, and padding.

    Attributes:
        positions: L, the encoder's positions, what frames the prompt included (77 for CLIP).
        before, after: ids around the prompt.
        bare: whether the tokenizer itself adds nothing to a text, as language models' tokenizers do; a word's
            leading space is then part of it.
    """

    tokenizer: Any
    positions: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    bare: bool = False

    @classmethod
    def of(cls, tokenizer: Any, positions: int) -> "Frame":
        """The tokenizer's own special tokens."""
        whole = tokenizer("a", verbose=False).input_ids
        before = tuple(whole[:1]) if whole[0] == tokenizer.bos_token_id else ()
        after = tuple(whole[-1:]) if whole[-1] == tokenizer.eos_token_id else ()
        return cls(tokenizer, positions, before, after)

    @property
    def room(self) -> int:
        """Positions for words and image tokens, 75 for CLIP."""
        return self.positions - len(self.before) - len(self.after)

    @property
    def placeholder(self) -> int:
        """An ordinary word's id, to hold image tokens' places."""
        return self.ids("a")[0]

    def ids(self, text: str, inside: bool = False) -> list[int]:
        """A text's own ids, without what frames it; `inside`: whether something stands before it in the prompt."""
        with _TOKENIZING:
            if self.bare:
                return self.tokenizer(f" {text}" if inside else text, add_special_tokens=False).input_ids
            whole = self.tokenizer(text, verbose=False).input_ids  # some tokenizers add a prefix only with specials
        return whole[len(self.before) : len(whole) - len(self.after)]


def set_budgets(
    prompt: Prompt, frame: Frame, available: Mapping[str, int], default: int | None = None, long: bool = False
) -> Prompt:
    """Give every slot its number of tokens.

    A slot without a budget takes `default`; without that, an even share of the room that the words
    leave, at most all tokens its image has.

    Args:
        available: how many tokens each named image has.
        long: whether the prompt is read in chunks (`compose_chunks`): each image then has the room of one of its own.
    Raises:
        InputError: a name has no image, an image has fewer tokens than asked for, or all
            image tokens together do not fit.
    """
    slots, room = [part for part in prompt.parts if isinstance(part, Slot)], frame.room
    for slot in slots:
        if slot.name not in available:
            given = f", beside {', '.join(available)}" if available else ""
            raise InputError(f"prompt: <{slot.name}> has no image; give one named '{slot.name}'{given}")
        if (slot.count or default or 1) > available[slot.name]:
            raise InputError(
                f"prompt: <{slot.name}> has {available[slot.name]} tokens, got a budget of {slot.count or default}; "
                f"ask for at most <{slot.name}:{available[slot.name]}>"
            )
    least = [slot.count or default or 1 for slot in slots]
    if long and not any(one > room for one in least):
        return prompt.budgeted(lambda slot: slot.count or default or min(room, available[slot.name]))
    if sum(least) > room:
        fewer = f"fewer with <{slots[0].name}:{room // len(slots)}>" if len(slots) <= room else "fewer images"
        each = " + ".join(map(str, least))
        raise InputError(f"expected at most {room} image tokens in one prompt, got {each}; ask for {fewer}")
    fixed = sum(slot.count or default or 0 for slot in slots)
    open_slots = [slot for slot in slots if not (slot.count or default)]
    words = sum(len(frame.ids(part)) for part in prompt.parts if isinstance(part, str))
    share = max(1, (room - fixed - words) // max(1, len(open_slots)))
    return prompt.budgeted(lambda slot: slot.count or default or min(share, available[slot.name]))


@dataclass(frozen=True)
class Composed:
    """What the text encoder reads.

    Attributes:
        ids: [L] token ids, placeholders where image tokens go.
        slots: (image name, first position, number of tokens), left to right.
        length: positions before the padding, [BOS] and [EOS] included.
        emphasis: how much each position is stressed, L of them, 1 for all if empty.
    """

    ids: Tensor
    slots: tuple[tuple[str, int, int], ...]
    length: int
    emphasis: tuple[float, ...] = ()


@dataclass
class _Layout:
    """[BOS] and what follows it, as it is laid out: ids, how much each is stressed, and where image tokens go."""

    frame: Frame

    def __post_init__(self) -> None:
        self.ids, self.slots = list(self.frame.before), list[tuple[str, int, int]]()
        self.emphasis = [1.0] * len(self.ids)

    @property
    def room(self) -> int:
        return self.frame.room + len(self.frame.before) - len(self.ids)

    @property
    def begun(self) -> bool:
        return len(self.ids) > len(self.frame.before)

    def add(self, ids: Sequence[int], stress: float) -> None:
        self.ids += ids
        self.emphasis += [stress] * len(ids)

    def add_slot(self, slot: Slot, stress: float) -> None:
        self.slots.append((slot.name, len(self.ids), slot.budget))
        self.add([self.frame.placeholder] * slot.budget, stress)

    def closed(self) -> Composed:
        """With [EOS] and padding."""
        ids = [*self.ids, *self.frame.after]
        padding = self.frame.positions - len(ids)
        stressed = any(stress != 1 for stress in self.emphasis)
        emphasis = (*self.emphasis, *[1.0] * (self.frame.positions - len(self.ids))) if stressed else ()
        padded = torch.tensor(ids + [self.frame.tokenizer.pad_token_id] * padding)
        return Composed(padded, tuple(self.slots), len(ids), emphasis)


def compose(prompt: Prompt, frame: Frame) -> Composed:
    """Lay out [BOS] prompt [EOS] padding over the text encoder's positions, as the family itself does.

    Words that do not fit are cut from the end, with a `PromptWarning`; image tokens never are.
    Every slot must have its budget (`set_budgets`).
    """
    layout, cut = _Layout(frame), list[int]()
    for_words = frame.room - sum(part.budget for part in prompt.parts if isinstance(part, Slot))
    for part, stress in prompt.stressed:
        if isinstance(part, Slot):
            layout.add_slot(part, stress)
            continue
        words = frame.ids(part, inside=layout.begun)
        layout.add(words[:for_words], stress)
        cut += words[for_words:]
        for_words -= min(len(words), for_words)
    if cut:
        text = frame.tokenizer.decode(cut).strip()
        warnings.warn(f"the prompt has {len(cut)} tokens too many; these words were cut: '{text}'", PromptWarning, 2)
    return layout.closed()


def compose_chunks(prompt: Prompt, frame: Frame) -> list[Composed]:
    """A prompt of any length as several layouts, each full before the next begins; an image's tokens stay together."""
    layouts = [_Layout(frame)]
    for part, stress in prompt.stressed:
        if isinstance(part, Slot):
            if part.budget > layouts[-1].room:
                layouts.append(_Layout(frame))
            layouts[-1].add_slot(part, stress)
            continue
        words = frame.ids(part, inside=layouts[-1].begun)
        while words:
            if not layouts[-1].room:
                layouts.append(_Layout(frame))
            room = layouts[-1].room
            layouts[-1].add(words[:room], stress)
            words = words[room:]
    return [layout.closed() for layout in layouts]


def inject(embeddings: Tensor, composed: list[Composed], tokens: list[Mapping[str, Tensor]]) -> Tensor:
    """Write image tokens over their placeholders; gradients flow to the tokens.

    Args:
        embeddings: [B, L, d], the words' own.
        composed: B layouts.
        tokens: for each of them, [n, d] by image name.
    Returns:
        [B, L, d].
    """
    rows: list[int] = []
    columns: list[int] = []
    values: list[Tensor] = []
    for row, (layout, images) in enumerate(zip(composed, tokens, strict=True)):
        for name, start, count in layout.slots:
            rows += [row] * count
            columns += range(start, start + count)
            values.append(images[name][:count].to(embeddings))
    if not values:
        return embeddings
    place = (torch.tensor(rows, device=embeddings.device), torch.tensor(columns, device=embeddings.device))
    return embeddings.index_put(place, torch.cat(values))
