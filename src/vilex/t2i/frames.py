"""Frames of families that do something to words before they are read, or put a space before the prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vilex.composition import Frame
from vilex.prompt import Prompt


@dataclass(frozen=True)
class TreatedFrame(Frame):
    """A frame whose words are treated first, each piece between images by itself.

    Attributes:
        treat: what is done to them, as `str.lower`; a space that stands before a piece stays.
        spaced: whether what stands before the prompt ends in a space, which is then the first word's.
    """

    treat: Callable[[str], str] = str
    spaced: bool = False

    def ids(self, text: str, inside: bool = False) -> list[int]:
        inside = inside or self.spaced or text.startswith(" ")
        treated = self.treat(text).strip()
        return super().ids(treated, inside) if treated else []


def spaced_frame(tokenizer: Any, before: str, positions: int, treat: Callable[[str], str] = str) -> TreatedFrame:
    """A text and a space before the prompt, nothing after it.

    Args:
        positions: from the prompt on, [BOS] among them.
    """
    ids = tuple(tokenizer(before.rstrip()).input_ids)
    return TreatedFrame(tokenizer, len(ids) + positions - 1, ids, (), True, treat, spaced=True)


def small_frame(tokenizer: Any, positions: int) -> TreatedFrame:
    """The tokenizer's own special tokens around words in small letters."""
    own = Frame.of(tokenizer, positions)
    return TreatedFrame(tokenizer, positions, own.before, own.after, treat=str.lower)


def bare_frame(tokenizer: Any, positions: int, treat: Callable[[str], str] = str) -> TreatedFrame:
    """What the tokenizer itself puts around a text; a word's space is its own."""
    own = Frame.of(tokenizer, positions)
    return TreatedFrame(tokenizer, positions, own.before, own.after, True, treat)


def framed(prompts: Sequence[Prompt], frame: Frame, nothing: Frame) -> list[Frame]:
    """Each prompt's frame; `nothing`: of one without words and images, and of what is steered away from."""
    return [frame if prompt.parts and not prompt.against else nothing for prompt in prompts]
