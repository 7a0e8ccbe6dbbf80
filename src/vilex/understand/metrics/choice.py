"""Multiple choice as ScienceQA is asked: `The answer is B.`"""

import re
from dataclasses import dataclass

_ANSWER = re.compile(r"the answer is ([a-z])\.")


@dataclass(frozen=True)
class ChoiceScore:
    """Shares of all questions: answered rightly, and without a letter that can be read."""

    accuracy: float
    unread: float


def letter_of(answer: str) -> str | None:
    """The letter that an answer begins with, in lower case; None if it says none (`The answer is B.` is the form)."""
    found = _ANSWER.match(answer.lower())
    return found[1] if found else None


def multiple_choice(answers: list[str], truths: list[str]) -> ChoiceScore:
    """Accuracy of letters; what cannot be read is wrong.

    Args:
        answers: what was said. truths: the letters, or sentences of the same form.
    """
    told = [letter_of(answer) for answer in answers]
    wanted = [letter_of(truth) or truth.strip().lower() for truth in truths]
    right = sum(one == other for one, other in zip(told, wanted, strict=True))
    return ChoiceScore(right / len(told), told.count(None) / len(told))
