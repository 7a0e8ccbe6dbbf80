"""Prompts with images in them: "a photo of <cat:16> in the snow", parsed; `vilex.composition` lays them out.

A prompt is words and slots. An image's name is a word of any script: letters, digits, _ and -, a letter or _ first.

"(in the snow:1.3)" stresses what it holds, words and images alike, within others by the product; see `vilex.emphasis`.
"""

import re
import unicodedata
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vilex.checks import text as checked_text
from vilex.errors import InputError

_BRACKETS = re.compile(r"<([^<>]*)>")
_STRAY = re.compile(r"<[^\W\d]|\w>|<$|^>")
_ROUND = re.compile(r"\\[()]|\(|:\s*[-+]?(?:\d+\.?\d*|\.\d+)\s*\)|\)|[^()\\:]+|[\\:]")
MOST_STRESS = 10.0


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
