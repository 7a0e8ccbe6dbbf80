"""What a sentence lacks."""

import pytest

from vilex.app.sentence import complete, remarks


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
