"""What a sentence lacks."""

import pytest

from vilex.app.sentence import complete, remarks
from vilex.prompt import parse


@pytest.mark.parametrize(
    ("text", "names", "wrong", "odd"),
    [
        ("<cat:4> in the snow", ["cat"], [], []),
        ("a house", [], [], []),
        ("  ", [], ["Write a sentence."], []),
        ("<cat> and <dog:3>", [], ["<cat> has no picture; give one that name, or take it out.",
                                   "<dog> has no picture; give one that name, or take it out."], []),
        ("in the snow", ["cat"], [], ["'cat' is not in the sentence; write <cat> where it belongs."]),
        ("<cat>", ["cat", "cat"], ["Two pictures are named 'cat'; give each its own name."], []),
        ("<cat>", ["cat", "2 b"], ["'2 b' is no name; use letters, digits, _ and -, a letter first."], []),
        ("<cat:40> <dog:40>", ["cat", "dog"], ["expected at most 75 image tokens"], []),
        ("<cat:0>", ["cat"], ["expected a number of tokens"], []),
        ("<cat:4> 3 > 2", ["cat"], [], ["A < or > is read as a word"]),
        ("<cat:74> in the snow", ["cat"], [], ["2 of the words' tokens do not fit"]),
        ("x" * 3000, [], ["The sentence has 3000 letters; at most 2000."], []),
    ],
)  # fmt: skip
def test_all_that_is_lacking_is_said_at_once(nano, text, names, wrong, odd):
    found = remarks(text, names, nano.t2i.frame, nano.num_tokens)
    for expected, lines in ((wrong, found.wrong), (odd, found.odd)):
        assert len(lines) == len(expected) and all(one in line for one, line in zip(expected, lines, strict=True)), (
            lines
        )


def test_slots_without_a_number_get_their_picture_s():
    assert complete("a <cat> on <dog:3> and <hat>", {"cat": 4, "dog": 9, "hat": 0}) == "a <cat:4> on <dog:3> and <hat>"


@pytest.mark.parametrize("text", ["a (red:1.3) <cat>", "(<cat> in (snow:2):.5) \\(x:2\\)", "((<cat>:1.1) a:1.2) (b)"])
def test_what_is_stressed_stays_so(text):
    asked, given = (parse(one) for one in (text, complete(text, {"cat": 4})))
    assert given == asked.budgeted(lambda slot: 4)


def test_stress_that_is_not_read_is_said_before_anything_is_drawn(nano):
    of = nano.t2i.frame, nano.num_tokens
    assert remarks("(<cat>:1.3) (<dog>:2)", ["cat"], *of).wrong == [
        "<dog> has no picture; give one that name, or take it out."
    ]
    assert "expected 0 to 10" in remarks("(<cat>:99)", ["cat"], *of).wrong[0]
    assert "read no stress" in remarks("(red:1.3) <cat>", ["cat"], *of, stress=False).wrong[0]
    assert "give them weights" in remarks("(<cat>:1.3)", ["cat"], *of, stress_images=False).wrong[0]
