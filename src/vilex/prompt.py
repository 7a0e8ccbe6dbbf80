"""Prompts with images in them: "a photo of <cat:16> in the snow" to the ids a text encoder reads.

A prompt is words and slots. Composed, it is [BOS] words and image tokens [EOS] and the family's own
padding; an ordinary word's id holds each image token's place, and the tokens go in as embeddings.
An image's name is a word of any script: letters, digits, _ and -, a letter or _ first.

"(in the snow:1.3)" stresses what it holds, words and images alike, within others by the product; see `vilex.emphasis`.
"""

import re
import unicodedata
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from vilex.checks import text as checked_text
from vilex.errors import InputError

_BRACKETS = re.compile(r"<([^<>]*)>")
_STRAY = re.compile(r"<[^\W\d]|\w>|<$|^>")
_ROUND = re.compile(r"\\[()]|\(|:\s*[-+]?(?:\d+\.?\d*|\.\d+)\s*\)|\)|[^()\\:]+|[\\:]")
MOST_STRESS = 10.0
_TOKENIZING = Lock()  # tokenizers of Rust break where two threads come at once


class PromptWarning(UserWarning):
    """Something of a prompt is not drawn as it may have been meant: words that were cut, brackets read as words."""


@dataclass(frozen=True)
class Slot:
    """An image's place in a prompt; `count` is None where the prompt names no token budget."""

    name: str
    count: int | None = None

    @property
    def budget(self) -> int:
        """`count`, which `set_budgets` has given it."""
        assert self.count is not None, f"<{self.name}> has no budget yet"
        return self.count


@dataclass(frozen=True)
class Prompt:
    """Words (strings) and slots in the order they were written.

    Attributes:
        emphasis: how much each part is stressed, 1 for all of them if empty.
        against: whether it is what is steered away from, before which some families put no template.
    """

    parts: tuple[str | Slot, ...]
    emphasis: tuple[float, ...] = ()
    against: bool = False

    @property
    def stressed(self) -> tuple[tuple[str | Slot, float], ...]:
        """Each part and how much it is stressed."""
        return tuple(zip(self.parts, self.emphasis or [1.0] * len(self.parts), strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """Its images' names, each once, as they come."""
        return tuple(dict.fromkeys(part.name for part in self.parts if isinstance(part, Slot)))

    @property
    def words(self) -> str:
        """The words alone, single-spaced where an image was left out."""
        return " ".join(" ".join(part for part in self.parts if isinstance(part, str)).split())

    def image_only(self) -> "Prompt":
        """The image tokens alone: the condition v."""
        return self._only(lambda part: isinstance(part, Slot))

    def words_only(self) -> "Prompt":
        """The words alone: the condition c."""
        return self._only(lambda part: isinstance(part, str)) if self.emphasis else Prompt((self.words,))

    def without(self, names: Collection[str]) -> "Prompt":
        """The prompt as if those images had never been in it."""
        kept = self._only(lambda part: isinstance(part, str) or part.name not in names)
        return kept if kept.names else self.words_only()

    def budgeted(self, budget: Callable[[Slot], int]) -> "Prompt":
        """The prompt with a number of tokens for every slot."""
        return replace(
            self,
            parts=tuple(Slot(part.name, budget(part)) if isinstance(part, Slot) else part for part in self.parts),
        )

    def _only(self, wanted: Callable[[Any], bool]) -> "Prompt":
        return _prompt([(part, stress) for part, stress in self.stressed if wanted(part)])


def literal(text: str) -> Prompt:
    """Words as they are, whatever brackets they hold: a caption is no prompt of this language."""
    words = checked_text(text, "prompt").strip()
    return Prompt((words,) if words else ())


def _prompt(stressed: Sequence[tuple[str | Slot, float]]) -> Prompt:
    emphasis = tuple(stress for _, stress in stressed)
    return Prompt(tuple(part for part, _ in stressed), emphasis if any(one != 1 for one in emphasis) else ())


def parse(text: str, emphasis: bool = True, known: Collection[str] = ()) -> Prompt:
    """Split "a <cat:16> and <dog>" into words and slots; spaces inside the brackets do not matter.

    Brackets that hold no name, as in "1 < 2 > 0", are words, and a `PromptWarning` says so.

    Args:
        emphasis: whether "(in the snow:1.3)" is stressed; round brackets without a number are words, and so is what
            is written \\( and \\).
        known: what stands in brackets and is a word all the same, as a textual inversion's <cat-toy>.
    Raises:
        InputError: a slot's name is none, as in <2cat> or <a b>; its budget is not a positive whole number; something
            is stressed by less than 0 or more than 10, all brackets around it taken together; `text` is no Unicode
            text.
    """
    pieces: list[str | Slot] = []
    words, end = "", 0
    for match in _BRACKETS.finditer(checked_text(text, "prompt")):
        words += text[end : match.start()]
        end = match.end()
        slot = None if match.group(0) in known else _slot(match.group(0), match.group(1))
        if slot is None:
            words += match.group(0)
            continue
        pieces += [words, slot]
        words = ""
    pieces.append(words + text[end:])
    parts: list[tuple[str | Slot, float]] = []
    for piece, stress in _stressed(pieces) if emphasis else [(piece, 1.0) for piece in pieces]:
        parts += [(part, stress) for part in (_words(piece) if isinstance(piece, str) else [piece])]
    return _prompt(parts)


def _stressed(pieces: Sequence[str | Slot]) -> list[tuple[str | Slot, float]]:
    """Pieces and how much each is stressed, without the brackets that say so."""
    found: list[tuple[str | Slot, float]] = []
    opened: list[int] = []  # where in `found` brackets are that are open
    for piece in pieces:
        if isinstance(piece, Slot):
            found.append((piece, 1.0))
            continue
        for mark in _ROUND.findall(piece):
            if mark == "(":
                opened.append(len(found))
                found.append((mark, 1.0))
            elif not (opened and mark.endswith(")") and mark[0] != "\\"):
                found.append((mark[1:] if mark in ("\\(", "\\)") else mark, 1.0))
            elif mark == ")":
                opened.pop()
                found.append((mark, 1.0))
            else:
                stress = _stress(mark)
                start = opened.pop()
                found[start:] = [(part, _within(own * stress)) for part, own in found[start + 1 :]]
    return _joined(found)


def _stress(written: str) -> float:
    stress = float(written[1:-1])
    if not 0 <= stress <= MOST_STRESS:
        raise InputError(
            f"prompt: '(...{written}': expected 0 to {MOST_STRESS:g} to stress something by; brackets that are words "
            "are written \\( and \\)"
        )
    return stress


def _within(stress: float) -> float:
    if stress > MOST_STRESS:
        raise InputError(
            f"prompt: brackets within brackets multiply, here to {stress:g}; expected 0 to {MOST_STRESS:g} to stress "
            "something by"
        )
    return stress


def _joined(found: Sequence[tuple[str | Slot, float]]) -> list[tuple[str | Slot, float]]:
    """Words that stand together and are stressed alike as one piece."""
    joined: list[tuple[str | Slot, float]] = []
    for part, stress in found:
        before = joined[-1] if joined else None
        if before and isinstance(part, str) and isinstance(before[0], str) and before[1] == stress:
            joined[-1] = (before[0] + part, stress)
        else:
            joined.append((part, stress))
    return joined


def image_name(name: str) -> str | None:
    """A name as prompts and images are matched by it, in one Unicode form (NFC); None if it is no image's name."""
    name = unicodedata.normalize("NFC", name.strip())
    return name if not name.startswith("-") and name.replace("-", "_").isidentifier() else None


def _slot(written: str, inside: str) -> Slot | None:
    """What stands in brackets as a slot; None if it is not meant as one."""
    before, colon, budget = inside.partition(":")
    name, budget = image_name(before), budget.strip()
    if name is None:
        if not inside or inside != inside.strip():
            _warn_of_brackets(written)
            return None
        raise InputError(
            f"prompt: '{written}': '{before}' is no image's name; use letters, digits, _ and -, a letter first, "
            "as in <cat> or <cat:16>"
        )
    if colon and not (budget.isdecimal() and len(budget) < 10 and int(budget) > 0):
        raise InputError(f"prompt: '{written}': expected a number of tokens, as in <{name}:16>")
    return Slot(name, int(budget) if budget else None)


def _words(text: str) -> list[str]:
    text = text.strip()
    if stray := _STRAY.search(_BRACKETS.sub("", text)):
        _warn_of_brackets(stray.group(0))
    return [text] if text else []


def _warn_of_brackets(written: str) -> None:
    warnings.warn(f"prompt: '{written}' is read as words; an image is written <cat> or <cat:16>", PromptWarning, 4)


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
