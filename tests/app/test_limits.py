"""Numbers that visitors send."""

import pytest

from vilex.app.limits import Brought, side_within, within
from vilex.errors import InputError


@pytest.mark.parametrize(
    ("value", "low", "high", "kept", "line"),
    [
        (20, 1, 100, 20, ""),
        (20.0, 1, 100, 20, ""),
        (10**9, 1, 100, 100, "Steps: 1e+09 is out of 1 to 100, 100 is taken."),
        (-5, 1, 100, 1, "Steps: -5 is out of 1 to 100, 1 is taken."),
        (float("inf"), 0.0, 20.0, 20.0, "Steps: inf is out of 0 to 20, 20 is taken."),
        (2.5, 0.0, 20.0, 2.5, ""),
    ],
)
def test_a_number_is_brought_into_its_range_and_says_so(value, low, high, kept, line):
    found = within(value, "Steps", low, high)
    assert found == kept and isinstance(found, type(low))
    assert (found.line if isinstance(found, Brought) else "") == line


@pytest.mark.parametrize("value", ["20", None, True, float("nan"), [], {}, "x" * 1000])
def test_what_is_no_number_is_refused_by_name(value):
    with pytest.raises(InputError, match=r"^Steps: expected a number from 1 to 100, got ") as at:
        within(value, "Steps", 1, 100)
    assert len(str(at.value)) < 150


@pytest.mark.parametrize(
    ("value", "kept", "line"),
    [
        (64, 64, ""),
        (70, 72, "Width: 70 is no multiple of 8, 72 is taken."),
        (64.4, 64, "Width: 64.4 is no multiple of 8, 64 is taken."),
        (127, 128, "Width: 127 is no multiple of 8, 128 is taken."),
        (9999, 128, "Width: 9999 is out of 32 to 128, 128 is taken."),
        (0, 32, "Width: 0 is out of 32 to 128, 32 is taken."),
    ],
)
def test_a_side_is_a_multiple_and_says_so(value, kept, line):
    found = side_within(value, "Width", 32, 128, 8)
    assert found == kept and (found.line if isinstance(found, Brought) else "") == line
