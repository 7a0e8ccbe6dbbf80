"""MMVP-VLM's published form, and its number by the published rule."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from tests.eval.eyesight.test_text_side import logits
from vilex.errors import InputError
from vilex.eval.eyesight.mmvp import by_pattern, pair_scores, read_mmvp
from vilex.eval.eyesight.text_side import TextSide

PATTERNS = ("Color", "Quantity", "Text")
WORDS = ("a cat", "a dog", "the red star", "two dogs in snow", "a photo", "the moon")


@pytest.fixture
def published(tmp_path):
    """Three patterns of four pairs, as the benchmark is published."""
    root, rng = tmp_path / "MMVP_VLM", np.random.default_rng(0)
    rows = [["Question ID", "Type", "Statement"]]
    for number in range(1, 25):
        pattern = PATTERNS[(number - 1) // 8]
        (root / "MLLM_VLM Images" / pattern).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((40, 40), Image.Resampling.NEAREST)
        picture.save(root / "MLLM_VLM Images" / pattern / f"{number}.jpg")
        rows.append([str(number), pattern, f"{WORDS[number % 6]}, {WORDS[(number * 5) % 6]}"])
    with open(root / "Questions.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def look_at(side, pairs):
    return side(torch.stack([side.views(Image.open(p).convert("RGB")) for pair in pairs for p in pair.pictures]))[0]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_number_is_that_of_the_published_rule(kind, readers, published):
    """Each text's softmax over both pictures at one half, a pair right if both are, the mean over patterns."""
    pairs, right = read_mmvp(published), {pattern: [] for pattern in PATTERNS}
    assert len(pairs) == 12 and pairs[1].pictures[0].name == "3.jpg"
    for pair in pairs:
        pictures = [Image.open(path).convert("RGB") for path in pair.pictures]
        lines = [f"a photo of {statement}" for statement in pair.statements]
        first = logits(readers[kind], pictures, lines).T.softmax(1)[:, 0]
        right[pair.pattern].append(bool(first[0] > 0.5) and not bool(first[1] > 0.5))
    side = TextSide(str(readers[kind]))
    score = pair_scores(side, pairs, look_at(side, pairs)[:, 0])
    assert by_pattern(pairs, score) == {pattern: np.mean(values) for pattern, values in right.items()}
    assert score.interval()["mean"] == pytest.approx(np.mean([np.mean(values) for values in right.values()]))
    assert 0 < score.values.sum() < 12  # else nothing was compared


def test_another_form_is_one_line(published, tmp_path):
    with pytest.raises(InputError, match=r"Questions\.csv: cannot be read .*; expected the published folder"):
        read_mmvp(tmp_path)
    table = published / "Questions.csv"
    lines = table.read_text().splitlines()
    for changed, line in (
        (["id,kind,text", *lines[1:]], "expected the columns Question ID, Type, Statement"),
        (lines[:1], "has no questions"),
        (lines[:2], "row 2: expected two rows of a pair"),
        ([lines[0], lines[2], lines[3]], "row 2: 2 and 3 are no pair; expected an odd number and the next"),
        ([lines[0], lines[1], lines[4]], "row 2: 1 and 4 are no pair"),
        ([lines[0], "1,Color", lines[2]], "row 2: expected two rows of a pair, each a number, a type and a statement"),
    ):
        table.write_text("\n".join(changed))
        with pytest.raises(InputError, match=line):
            read_mmvp(published)
    table.write_text("\n".join(lines))
    (published / "MLLM_VLM Images" / "Text" / "24.jpg").unlink()
    with pytest.raises(InputError, match=r"24\.jpg: missing; fetch the pictures of MMVP-VLM again"):
        read_mmvp(published)
