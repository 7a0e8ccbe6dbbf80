"""What a visitor may ask for at most. Every number is held on the server, whatever a page or a program sends."""

import math
from dataclasses import dataclass
from typing import Any

from vilex.errors import InputError

STEPS = 100  # denoising steps
SEEDS = 4  # pictures of one setting
STRIP = 9  # pictures between two
SWEEP = (0.0, 1.0, 2.0, 4.0, 8.0)  # weights of text-free guidance that are drawn side by side
WEIGHT = 20.0  # of guidance
SEED = 2**32 - 1
WORDS = 2000  # letters of a prompt
PICTURES = 12  # of an average
SIDE = 1024  # pixels that pictures of the model's own size are enlarged to
WIDER = 2  # times the model's own side that is drawn at most


@dataclass(frozen=True)
class Limits:
    """What the server as a whole takes.

    Attributes:
        waiting: jobs in the queue before others are turned away.
        upload: bytes of one upload.
        stored: bytes of all visitors' files together.
        keep: seconds after which uploaded and made files are deleted.
    """

    waiting: int = 20
    upload: int = 20 * 2**20
    stored: int = 4 * 2**30
    keep: float = 3600.0


class Brought:
    """A number that was out of its range, and is not any more; `line` says so."""

    line = ""


class BroughtWhole(int, Brought):
    """A whole one."""


class BroughtReal(float, Brought):
    """Any other."""


def within(value: Any, name: str, low: float, high: float) -> float:
    """A number brought to `low` to `high` (`Brought`, if it was not there); whole where `low` is.

    Args:
        name: what it is, for the line.
    Raises:
        InputError: it is no number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise InputError(f"{name}: expected a number from {low:g} to {high:g}, got {str(value)[:60]!r}")
    kept = min(max(value, low), high)
    if isinstance(low, int):
        kept = round(kept)
    if low <= value <= high:
        return kept
    brought = BroughtWhole(kept) if isinstance(low, int) else BroughtReal(kept)
    brought.line = f"{name}: {value:g} is out of {low:g} to {high:g}, {kept:g} is taken."
    return brought


def side_within(value: Any, name: str, low: int, high: int, step: int) -> int:
    """A side in pixels brought to `low` to `high`, which are multiples of `step`, and to the nearest one of those.

    Raises:
        InputError: it is no number.
    """
    kept = int(within(value, name, low, high))
    drawn = (kept + step // 2) // step * step
    if drawn == kept and kept == value:
        return kept
    brought = BroughtWhole(drawn)
    brought.line = (
        f"{name}: {value:g} is no multiple of {step}, {drawn} is taken."
        if low <= value <= high
        else f"{name}: {value:g} is out of {low} to {high}, {drawn} is taken."
    )
    return brought
