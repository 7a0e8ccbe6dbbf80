"""Marks of single answers, and the page that shows some: which ones, in what words, and nothing but text in them."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.understand import small
from vilex.cli.app import app
from vilex.errors import InputError
from vilex.understand.answer_page import BOTH, LETTERS, SAID, TRUE, shelves, write_page
from vilex.understand.answers import Answer, read_answers
from vilex.understand.examples import Example
from vilex.understand.features import FeaturesConfig
from vilex.understand.mask_codec import load_codec
from vilex.understand.masks import mask_to_words
from vilex.understand.metrics.marks import Marks, marks_of
from vilex.understand.metrics.score import score
from vilex.understand.rle import write_mask
from vilex.understand.tasks.registry import TASKS
from vilex.understand.vlm_folder import make_vlm, save_vlm


class Page(HTMLParser):
    """Tags, texts of answers, and addresses of pictures of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.pictures, self.classes, self.texts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        named = dict(attributes)
        if tag == "img":
            content = base64.b64decode(named["src"].removeprefix("data:image/jpeg;base64,"))
            self.pictures.append(np.asarray(Image.open(io.BytesIO(content))))
        if tag == "article":
            self.classes.append(named["class"])

    def handle_data(self, data):
        self.texts.append(data)


def made(count, folder, truths=("cat",)):
    examples = []
    for i in range(count):
        Image.new("RGB", (300, 150), (10 * i, 0, 0)).save(folder / f"{i}.png")
        examples.append(Example((folder / f"{i}.png",), f"what {i}?", truths, str(i)))
    return examples, [Answer(one.id, one.prefix, "cat", one.truths) for one in examples]


def test_marks_are_those_that_the_score_is_the_mean_of(tmp_path):
    people = [("a cat",) * 6 + ("dog",) * 4, ("yes",) * 10, ("no",) * 3 + ("yes",) * 7]
    said = ["a cat", "no", "no"]
    examples = [Example((), "q", some, str(i)) for i, some in enumerate(people)]
    predictions = {str(i): one for i, one in enumerate(said)}
    for task in ("vqav2", "okvqa"):
        marks = marks_of(TASKS[task], said, examples)
        total = score(TASKS[task], predictions, examples)[TASKS[task].headline]
        assert marks.name == TASKS[task].headline and 100 * np.mean(marks.values) == pytest.approx(total)
    asked = [Example((), "q", ("The answer is B.",), str(i)) for i in range(2)]
    assert marks_of(TASKS["scienceqa"], ["The answer is b.", "B"], asked).values == [1.0, 0.0]
    assert marks_of(None, ["yes", "x"], [Example((), "q", ("yes",))] * 2).values == [1.0, 0.0]
    told = [
        Example((), "caption en", (text,), str(i)) for i, text in enumerate(["a red cat", "two dogs run", "a tree"])
    ]
    captions = marks_of(TASKS["cococap"], ["a red cat", "a tree", "a tree"], told)
    assert captions.name == "CIDEr" and captions.values[1] == 0 < captions.right == np.median(captions.values)


def test_half_is_right_where_there_are_enough():
    marks = Marks("match", [1.0] * 10 + [0.0] * 20)
    right, wrong = shelves(marks, 9)
    assert (len(right.rows), len(wrong.rows), right.total, wrong.total) == (5, 4, 10, 20)
    assert all(row < 10 for row in right.rows) and all(row >= 10 for row in wrong.rows)
    assert shelves(marks, 9, seed=1) != (right, wrong) == shelves(marks, 9)
    assert [len(one.rows) for one in shelves(Marks("match", [1.0] + [0.0] * 20), 8)] == [1, 7]
    assert [len(one.rows) for one in shelves(Marks("match", [1.0] * 20), 8)] == [8, 0]
    assert [len(one.rows) for one in shelves(marks, 1000)] == [10, 20]


def test_a_text_is_never_markup(tmp_path):
    evil = '<script>alert("1")</script><img src=x onerror=alert(1)>&amp;'
    examples, _ = made(2, tmp_path, truths=(evil, evil, "cat"))
    examples = [
        Example(one.images * 6, evil + "x" * LETTERS, one.truths, f'{i}"><b>') for i, one in enumerate(examples)
    ]
    answers = [Answer(one.id, one.prefix, evil, one.truths) for one in examples]
    write_page(tmp_path / "page.html", evil, examples, answers, marks_of(None, [evil, ""], examples), {evil: 1.0}, 2)
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert "script" not in page.tags and "b" not in page.tags and page.tags.count("img") == 8  # 4 frames of 6 each
    assert page.classes == ["right", "wrong"] and page.texts.count(evil) >= 4  # as title, answer and truth
    assert "x 2" in page.texts and any("2 more frames" in one for one in page.texts)
    assert "default-src 'none'" in text and not re.search(r'(src|href)="(?!data:)', text)
    assert all(max(one.shape) == 256 for one in page.pictures)


def test_masks_are_drawn_on_their_picture(tmp_path):
    Image.new("RGB", (200, 100), "black").save(tmp_path / "a.png")
    true, other = np.zeros((2, 100, 200), dtype=bool)
    true[20:80, 20:100], other[20:80, 60:140] = True, True
    fields = {"mask": write_mask(true)}
    examples = [Example((tmp_path / "a.png",), "it", (), str(i), fields=fields) for i in range(3)]
    codec = load_codec()
    said = [*mask_to_words(codec, [true, other]), "no mask"]
    marks = marks_of(TASKS["refcoco"], said, examples, codec)
    assert marks.values[0] > 0.9 > 0.5 > marks.values[1] > 0.2 and marks.values[2] == 0
    total = score(TASKS["refcoco"], dict(zip("012", said, strict=True)), examples, codec)["miou"]
    assert 100 * np.mean(marks.values) == pytest.approx(total)
    answers = [Answer(str(i), "it", one) for i, one in enumerate(said)]
    write_page(tmp_path / "page.html", "masks", examples, answers, marks, {}, 9)
    page = Page((tmp_path / "page.html").read_text())
    assert page.classes == ["right", "wrong", "wrong"]
    _, shifted, nothing = page.pictures
    for place, colour in (((50, 40), TRUE), ((50, 80), BOTH), ((50, 120), SAID), ((50, 180), (0, 0, 0))):
        assert np.abs(shifted[place].astype(int) - np.array(colour) // 2).max() < 25, place
    assert np.abs(nothing[50, 80].astype(int) - np.array(TRUE) // 2).max() < 25


def test_eval_writes_answers_scores_and_page(tmp_path):
    base = small.paligemma(tmp_path / "base")
    save_vlm(make_vlm(str(base), "", FeaturesConfig()), tmp_path / "vlm")
    made(5, tmp_path)
    lines = [{"image": f"{i}.png", "prefix": "what is this", "suffix": ["cat"] * 4, "id": str(i)} for i in range(5)]
    data = tmp_path / "test.jsonl"
    data.write_text("\n".join(map(json.dumps, lines)))

    def evaluated(out, *more):
        words = ["understand", "eval", tmp_path / "vlm", data, "-o", tmp_path / out, "--max-new-tokens", "2", *more]
        done = CliRunner().invoke(app, list(map(str, words)))
        if done.exception:
            raise done.exception
        return done.stdout

    evaluated("a", "--task", "vqav2", "--examples", "4")
    kept = json.loads((tmp_path / "a" / "scores.json").read_text())
    assert kept["task"] == "vqav2" and kept["answers"] == 5 and "vqa_accuracy" in kept["scores"]
    assert [one.id for one in read_answers(tmp_path / "a" / "predictions.jsonl")] == list("01234")
    page = Page((tmp_path / "a" / "examples.html").read_text())
    assert len(page.classes) == len(page.pictures) == 4 and "vqa_accuracy" in page.texts
    evaluated("b", "--examples", "0")
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["predictions.jsonl", "scores.json"]
    with pytest.raises(InputError, match=r"predictions\.jsonl: exists"):
        evaluated("a")
    evaluated("a", "--overwrite", "--examples", "0")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["predictions.jsonl", "scores.json"]
    for task, line in (
        ("refcoco", "example 0: 'mask': expected"),
        ("vqa", "there is no 'vqa'; did you mean"),
    ):
        with pytest.raises(InputError, match=line):
            evaluated("c", "--task", task)
    assert not (tmp_path / "c").exists()  # found before the work


def test_ask_writes_the_mask_that_an_answer_draws(tmp_path, monkeypatch):
    Image.new("RGB", (120, 80)).save(tmp_path / "a.png")
    true = np.zeros((80, 120), dtype=bool)
    true[10:60, 20:90] = True
    said = mask_to_words(load_codec(), [true])[0]
    base = small.paligemma(tmp_path / "base")
    save_vlm(make_vlm(str(base), "", FeaturesConfig()), tmp_path / "vlm")
    words = ["understand", "ask", str(tmp_path / "vlm"), str(tmp_path / "a.png"), "the box", "--mask"]
    done = CliRunner().invoke(app, [*words, str(tmp_path / "no.png")])
    assert isinstance(done.exception, InputError) and "draws no mask; ask a model that was" in str(done.exception)
    monkeypatch.setattr("vilex.understand.vlm.VisualLanguageModel.answer", lambda *_: [said])  # as if it had learnt it
    done = CliRunner().invoke(app, [*words, str(tmp_path / "mask.png"), "--json"])
    assert json.loads(done.stdout)["mask"] == str(tmp_path / "mask.png") and not (tmp_path / "no.png").exists()
    drawn = np.asarray(Image.open(tmp_path / "mask.png"))
    assert drawn.shape == (80, 120) and (drawn & true).sum() > 0.9 * (drawn | true).sum()
    assert isinstance(CliRunner().invoke(app, [*words, str(tmp_path / "mask.png")]).exception, InputError)
