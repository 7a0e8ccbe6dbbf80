"""Numbers checked where they enter, for Python and the command line alike; settings of TOML: `vilex.settings`.

steps = whole(steps, "steps", 1, 1000)
strength = number(strength, "strength", 0, 1)
"""

import math
import operator
import re
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

from vilex.errors import InputError

SEEDS = -(2**63), 2**64 - 1  # what torch.Generator takes
WEIGHTS = -1000.0, 1000.0  # of guidance and of images
STEPS = 1, 1000  # of denoising
PICTURES = 1, 100_000  # a prompt
SIDES = 8, 8192  # pixels of a picture's width or height


def whole(value: Any, name: str, low: int, high: int) -> int:
    """A whole number of any kind (Python's, numpy's, a tensor's) from `low` to `high` as Python's.

    Raises:
        InputError: it is none, or out of its range; the line begins with `name`.
    """
    try:
        found = None if _is_bool(value) else operator.index(value)
    except (TypeError, RuntimeError, ValueError):
        found = None
    if found is None or not low <= found <= high:
        raise InputError(f"{name}: expected a whole number from {low} to {high}, got {shown(value)}")
    return found


def number(value: Any, name: str, low: float, high: float) -> float:
    """A finite number of any kind from `low` to `high`, both allowed, as Python's.

    Raises:
        InputError: it is none, or out of its range; the line begins with `name`.
    """
    real = isinstance(value, Real) and not _is_bool(value)
    try:
        found = float(value) if real else math.nan
    except OverflowError:  # a whole number of hundreds of digits
        found = math.inf
    if not low <= found <= high:
        raise InputError(f"{name}: expected a number from {low:g} to {high:g}, got {shown(value)}")
    return found


def instance(value: Any, kind: Any, name: str, called: str) -> Any:
    """A value of a kind as `isinstance` has it; `called` is what the error says was expected.

    Raises:
        InputError: it is of another.
    """
    if not isinstance(value, kind):
        raise InputError(f"{name}: expected {called}, got {shown(value)}")
    return value


def text(value: Any, name: str) -> str:
    """A text that tokenizers can read.

    Raises:
        InputError: it is none, or holds what no Unicode text has (bytes of a name that is not UTF-8, NUL).
    """
    if not isinstance(value, str):
        raise InputError(f"{name}: expected a text, got {shown(value)}")
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InputError(f"{name}: expected Unicode text without NUL, got {shown(value)}")
    return value


def one_or_more(value: Any, name: str, check: Callable[[Any, str], Any]) -> list[Any]:
    """A value or a sequence of them, each checked, as a list.

    Raises:
        InputError: there are none, or `check` raises.
    """
    if isinstance(value, str) or not _is_sequence(value):
        return [check(value, name)]
    if not len(value):
        raise InputError(f"{name}: expected at least one, got none")
    return [check(item, name) for item in value]


def seed(value: Any, name: str = "seed") -> int:
    """A seed for `torch.Generator`; see `whole`."""
    return whole(value, name, *SEEDS)


def size(value: Any, name: str) -> tuple[int, int]:
    """A size as "768x512": (width, height) in pixels.

    Raises:
        InputError: it is none, or a side is out of its range; the line begins with `name`.
    """
    found = re.fullmatch("([0-9]{1,9})[xX×]([0-9]{1,9})", text(value, name))
    if not found:
        raise InputError(f"{name}: expected WIDTHxHEIGHT, as in 768x512, got {shown(value)}")
    return whole(int(found[1]), f"{name}: width", *SIDES), whole(int(found[2]), f"{name}: height", *SIDES)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).removeprefix("torch.") == "bool"


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) or getattr(value, "ndim", 0) == 1


def shown(value: Any) -> str:
    """A value as an error shows it: a few words, however large it is."""
    try:
        written = repr(value)
    except ValueError:  # Python writes no numbers of thousands of digits
        written = "a number of thousands of digits"
    return written if len(written) <= 60 else f"{written[:57]}..."
