"""A sentence with pictures in it: what it lacks, said before anything is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vilex.app.limits import WORDS
from vilex.composition import Frame, set_budgets
from vilex.errors import InputError
from vilex.prompt import Prompt, Slot, image_name, parse
from vilex.requests import check_emphasis


@dataclass(frozen=True)
class Remarks:
    """Lines on a sentence: what keeps it from being drawn, and what will not be drawn as it may have been meant."""

    wrong: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)


def complete(text: str, budgets: Mapping[str, int]) -> str:
    """A sentence whose slots without a number of tokens have their picture's; 0 leaves it to the room there is."""
    parts = (
        Slot(part.name, part.count or budgets.get(part.name) or None) if isinstance(part, Slot) else part
        for part in parse(text, emphasis=False).parts  # round brackets stay as they were written
    )
    return " ".join(part if isinstance(part, str) else _slot(part) for part in parts)


def remarks(
    text: str, names: Sequence[str], frame: Frame, tokens: int, stress: bool = True, stress_images: bool = True
) -> Remarks:
    """What is to be said of a sentence.

    Args:
        names: of the pictures that were given, as their visitor wrote them.
        tokens: how many each picture has.
        stress, stress_images: whether the frozen model reads stressed words, and pictures among them.
    """
    if len(text) > WORDS:
        return Remarks([f"The sentence has {len(text)} letters; at most {WORDS}."])
    try:
        prompt = parse(text)
        check_emphasis(prompt, stress, stress_images)
    except InputError as error:
        return Remarks([str(error)])
    if not prompt.parts:
        return Remarks(["Write a sentence."])
    known = [known for name in names if (known := image_name(name))]
    wrong = [
        f"'{name}' is no name; use letters, digits, _ and -, a letter first." for name in names if not image_name(name)
    ]
    wrong += [f"Two pictures are named '{name}'; give each its own name." for name in sorted(_twice(known))]
    lacking = [name for name in prompt.names if name not in known]
    wrong += [f"<{name}> has no picture; give one that name, or take it out." for name in lacking]
    odd = [
        f"'{name}' is not in the sentence; write <{name}> where it belongs."
        for name in known
        if name not in prompt.names
    ]
    if any(letter in prompt.words for letter in "<>"):
        odd.append("A < or > is read as a word; a picture is written <name> or <name:16>.")
    if lacking:
        return Remarks(wrong, odd)
    try:
        over = _words_cut(set_budgets(prompt, frame, dict.fromkeys(prompt.names, tokens)), frame)
    except InputError as error:
        return Remarks([*wrong, str(error)], odd)
    return Remarks(
        wrong, [*odd, f"{over} of the words' tokens do not fit, and are cut at the end."] if over > 0 else odd
    )


def _slot(slot: Slot) -> str:
    return f"<{slot.name}>" if slot.count is None else f"<{slot.name}:{slot.count}>"


def _words_cut(prompt: Prompt, frame: Frame) -> int:
    pictures = sum(part.budget for part in prompt.parts if isinstance(part, Slot))
    return pictures + sum(len(frame.ids(part)) for part in prompt.parts if isinstance(part, str)) - frame.room


def _twice(names: Sequence[str]) -> set[str]:
    return {name for name in names if names.count(name) > 1}
