"""Scores against the programs that define them: what those say of the same texts lies in tests/golden."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from vilex.errors import InputError
from vilex.understand.metrics.captions import bleu, cider
from vilex.understand.metrics.choice import letter_of, multiple_choice
from vilex.understand.metrics.ptb import words_of
from vilex.understand.metrics.segmentation import segmentation_score
from vilex.understand.metrics.short_answers import exact_match, vqa_accuracy, vqa_any3, vqa_evalai, vqa_lmms

GOLDEN = Path(__file__).parents[1] / "golden"
DATA = Path(os.environ.get("VILEX_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_data = pytest.mark.skipif(
    not (DATA / "flickr8k-500.parquet").is_file(), reason="the tables are not here; VILEX_DATA names their folder"
)

# Of 167 sentences made to be hard these come out otherwise than from Java.
OTHERWISE = {
    ":) :-) ;) <3", "&amp; &lt; &quot;", "</s> <b>bold</b>", "C++ C#", "Oh!He", "No?Yes", "😀 smile", "9a.m. 9 a.m.",
    "ma'am o'clock y'all rock'n'roll", "john@x.com http://www.a.com/b www.foo.com foo.com", "-5 +5 5-",
    "a.b.c e.g. i.e. vs. vs", "(in brackets) [in brackets] {in} <in>", "black/white and 1/2 3 1/2 and/or",
    "1,000 2.5 .5 3,4 a,b 10:30pm 7-11 555-1234 (555) 123-4567", "3 1/2 inches",
    "A plate with vitamin B. The man eats.", "a*b ** * + = ~ ^ | \\\\ _ a_b @home",
}  # fmt: skip


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def table(name, column):
    import pyarrow.parquet

    return pyarrow.parquet.read_table(DATA / name, columns=[column])[column].to_pylist()


def test_words_are_those_of_java():
    made = golden("ptb")["made"]
    assert {text for text, words in made.items() if words_of(text) != words.split(" ") * bool(words)} == OTHERWISE
    assert len(made) > 160
    for text, words in golden("ptb")["languages"].items():
        assert words_of(text) == words.split(" ")


@needs_data
def test_words_of_captions_by_people_are_those_of_java():
    captions = [text for texts in table("flickr8k-500.parquet", "captions") for text in texts]
    for name, texts in (("flickr8k-500", captions), ("nlvr", sorted(set(table("nlvr.parquet", "sentence"))))):
        made = [hashlib.sha256(" ".join(words_of(text)).encode()).hexdigest()[:6] for text in texts]
        assert made == golden("ptb")[name].split()


def test_cider_and_bleu_are_those_of_pycocoevalcap():
    known = golden("captions")
    np.testing.assert_allclose(cider(known["captions"], known["references"]), known["cider"], atol=1e-8)
    np.testing.assert_allclose(bleu(known["captions"], known["references"]), known["bleu"], atol=1e-12)
    assert 0.5 < np.mean(known["cider"]) < 5 and known["cider"][3] == 0


@needs_data
def test_people_describe_photographs_as_well_as_pycocoevalcap_says():
    """A person's caption against the other four: CIDEr 79.6 of the fifth, 83.9 in the mean of all five turns."""
    captions, known = table("flickr8k-500.parquet", "captions"), golden("captions")["flickr8k-500"]
    for k in (0, 4):
        told, rest = [texts[k] for texts in captions], [texts[:k] + texts[k + 1 :] for texts in captions]
        assert cider(told, rest).mean() == pytest.approx(known["cider"][k], abs=1e-8)
        assert bleu(told, rest) == pytest.approx(known["bleu"][k], abs=1e-10)
    assert 100 * known["cider"][4] == pytest.approx(79.6, abs=0.05)
    assert 100 * np.mean(known["cider"]) == pytest.approx(83.9, abs=0.05)


def test_cider_knows_only_the_images_that_it_is_given():
    assert cider(["a cat"], [["a cat"]]).tolist() == [0.0]
    assert cider(["a cat", "a dog"], [["a cat"], ["a dog"]]).mean() > 2


@pytest.mark.parametrize("score", [cider, bleu])
def test_captions_without_references_are_refused(score):
    with pytest.raises(InputError, match="captions: 1 for 2 images; give one for each"):
        score(["a"], [["a"], ["b"]])
    with pytest.raises(InputError, match=r"references of image 1: expected a list of at least one text, got \[\]"):
        score(["a", "b"], [["a"], []])
    with pytest.raises(InputError, match="expected at least one, got none"):
        score([], [])


def test_accuracies_of_answers_are_those_of_the_published_evaluators():
    cases, metrics = golden("vqa")["cases"], (vqa_accuracy, vqa_lmms, vqa_evalai)
    assert len(cases) > 90
    for answer, truths, *wanted in cases:
        assert [metric(answer, truths) for metric in metrics] == pytest.approx(wanted, abs=1e-6), (answer, truths)
    columns = np.array([case[2:] for case in cases])
    assert all((columns[:, i] != columns[:, j]).any() for i, j in ((0, 1), (1, 2), (0, 2)))


def test_definitions_of_accuracy_differ_as_their_names_say():
    people = ["a dog", *["dog"] * 2, *["cat"] * 7]
    assert vqa_accuracy("The dog.", people) == pytest.approx((3 * 2 / 3 + 7) / 10)
    assert vqa_any3("dog", people) == pytest.approx(2 / 3) and vqa_any3("The dog.", people) == 0
    assert vqa_any3("cat", people) == 1
    alike = ["a dog"] * 10
    assert (vqa_accuracy("dog", alike), vqa_lmms("dog", alike)) == (0, 1)
    assert (exact_match("dog", ["dog", "a dog"]), exact_match("Dog", ["dog"])) == (1, 0)
    with pytest.raises(InputError, match=r"expected at least 4 people's answers .* got 1"):
        vqa_accuracy("dog", ["dog"])


def test_choices_are_read_as_they_are_asked_and_what_cannot_be_read_is_counted():
    assert letter_of("The answer is B.") == "b" and letter_of("The answer is B") is None
    assert letter_of("I think the answer is B.") is None
    score = multiple_choice(["The answer is B.", "the answer is a.", "B", "The answer is C."], ["b", "B", "b", "C"])
    assert (score.accuracy, score.unread) == (0.5, 0.25)


def test_overlaps_of_masks():
    def box(*corners):
        mask = np.zeros((10, 10), dtype=bool)
        mask[corners[0] : corners[2], corners[1] : corners[3]] = True
        return mask

    pairs = [
        (box(0, 0, 10, 10), box(0, 0, 10, 10)),  # the whole
        (box(0, 0, 2, 2), box(0, 1, 2, 3)),  # 2 of 6, at the border
        (None, box(0, 0, 1, 4)),  # invalid
        (box(0, 0, 1, 1), box(9, 9, 10, 10)),  # apart
    ]
    score = segmentation_score(pairs)
    assert score.miou == pytest.approx((1 + 1 / 3 + 0 + 0) / 4)
    assert score.ciou == pytest.approx(102 / (100 + 6 + 4 + 2)) and score.invalid == 0.25
    with pytest.raises(InputError, match="mask 0: the true one is empty"):
        segmentation_score([(None, box(0, 0, 0, 0))])
    with pytest.raises(InputError, match=r"mask 0: predicted \(5, 5\), true \(10, 10\)"):
        segmentation_score([(np.ones((5, 5), dtype=bool), box(0, 0, 1, 1))])
    with pytest.raises(InputError, match="expected at least one, got none"):
        segmentation_score([])
