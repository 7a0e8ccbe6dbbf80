"""The benchmark's training and tables: the whole command in small, what it resumes, and what its numbers mean."""

import io
import itertools
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from filelock import FileLock, Timeout
from PIL import Image, ImageDraw
from scipy.stats import bootstrap
from transformers import SiglipVisionModel

from recipes.nano import __main__ as command
from recipes.nano.captions import captions_of
from recipes.nano.presets import Preset, UnderstandingPreset
from recipes.nano.rows import table_row
from recipes.nano.scenes import random_scene
from recipes.nano.sprites import CONCEPTS, STYLES, Sprite
from recipes.nano.understanding import contest, sets
from recipes.nano.understanding.contest_page import commonest, to_page
from recipes.nano.understanding.intervals import Answered, Resamples, interval_of
from recipes.nano.understanding.towers import encoder_folder, shown_by_vilex
from recipes.nano.understanding.zoomed import PART
from vilex.encoder import load_encoder
from vilex.errors import InputError
from vilex.train.toml import load_toml
from vilex.understand.examples import Example, read_examples

SMALL = """
device = "cpu"
threads = 1
precision = "fp32"
[tower]
width = 48
layers = 1
images = 16
batch = 4
[pooler]
images = 0
[vilex.model]
heads = 4
num_tokens = 20
blocks = 5
[vilex.optim]
name = "adamw"
tower_lr = 1e-2
warmup_steps = 0
[vilex.run]
steps = 4
batch_size = 2
save_every = 1
sample_every = 0
[towers]
labelled_images = 8
zoomed_scenes = 2
vilex_steps = 1
[report]
steps = 1
[understanding]
scenes = 8
clips = 2
tested_scenes = 3
tested_clips = 2
width = 16
layers = 1
heads = 2
hidden = 16
least = 1
epochs = 1
batch = 4
rates = [1e-3]
seeds = 2
tables = ["3", "A1"]
redrawn = 2
resamples = 50
"""


def drawings():
    found = []
    for i, concept in enumerate(CONCEPTS[:20]):
        image = Image.new("RGBA", (64, 64))
        ImageDraw.Draw(image).ellipse((4, 4, 60, 60), fill=(10 * i, 255 - 10 * i, 128))
        found += [Sprite(concept, style, image) for style in STYLES]
    return found


def png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The emoji table and NLVR's, in the real ones' shape, and easy-VQA's folder."""
    folder = tmp_path_factory.mktemp("data")
    rows = [{"image": png(one.image), "name": one.concept, "style": one.style} for one in drawings()]
    pa.parquet.write_table(pa.Table.from_pylist(rows), folder / "emoji-64px.parquet")
    picture = np.zeros((100, 400, 3), dtype=np.uint8)
    for k, (left, right) in enumerate(sets.BOXES):
        picture[:, left:right] = 50 * (k + 1)
    nlvr = [
        {"image": png(Image.fromarray(picture)), "sentence": "There is a box.", "label": str(i % 2 == 0).lower(),
         "split": "train" if i < 26 else "test", "identifier": str(i // 2), "order": str(i % 2)} for i in range(28)
    ]  # fmt: skip
    pa.parquet.write_table(pa.Table.from_pylist(nlvr), folder / "nlvr.parquet")
    for split, count in (("train", 12), ("test", 2)):
        images = folder / "easy" / split / "images"
        images.mkdir(parents=True)
        asked = []
        for i in range(count):
            Image.new("RGB", (64, 64), "teal").save(images / f"{i}.png")
            asked += [["what color is the shape?", "teal", i], ["is there a circle?", "no", i]]
        (images.parent / "questions.json").write_text(json.dumps(asked))
    return folder


@pytest.fixture
def easy(data, monkeypatch):
    monkeypatch.setattr(sets, "easy_vqa_folder", lambda: data / "easy")


def test_sets_hold_each_picture_on_one_side_and_say_how_each_is_scored(data, easy, tmp_path):
    folder = sets.make_sets(data, tmp_path, contest.sizes_of(UnderstandingPreset(8, 2, 4, 2)))
    read = {split: read_examples(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        pictures = [{example.fields["picture"] for example in read[split]} for split in (one, other)]
        assert not pictures[0] & pictures[1]
    assert {example.fields["set"] for example in read["validation"]} == {"scenes", "clips", "easy-vqa", "nlvr"}
    assert {example.fields["task"] for example in read["validation"]} == {"gqa"}
    assert {example.fields["task"] for example in read["test"]} == {"gqa", "cococap", "refcoco"}
    assert all(example.suffixes for split in read.values() for example in split)
    shown = {name: next(one for one in read["train"] if one.fields["set"] == name) for name in ("nlvr", "clips")}
    assert len(shown["nlvr"].images) == 3 and len(shown["clips"].images) == 4
    grey = [np.asarray(Image.open(path)).mean() for path in shown["nlvr"].images]
    assert grey == [50, 100, 150]
    refer = next(one for one in read["test"] if one.fields["kind"] == "refer")
    assert refer.suffixes[0].startswith("<loc") and refer.fields["mask"]
    kinds = [one.fields["kind"] for one in read["test"]]
    assert len(set(kinds)) == 1 + sum(a != b for a, b in itertools.pairwise(kinds))
    before = (folder / "test.jsonl").stat().st_mtime_ns
    assert sets.make_sets(data, tmp_path, contest.sizes_of(UnderstandingPreset(8, 2, 4, 2))) == folder
    assert (folder / "test.jsonl").stat().st_mtime_ns == before
    assert sets.make_sets(data, tmp_path, contest.sizes_of(UnderstandingPreset(9, 2, 4, 2))) != folder


def test_intervals_are_those_of_the_bootstrap_and_know_of_seeds():
    rng = np.random.default_rng(0)
    marks = 100 * (rng.random((1, 400)) < 0.3).astype(float)
    pictures = tuple(f"p{i}" for i in range(400))
    found = interval_of(Resamples(pictures, 1, 4000).means(Answered(marks, pictures)))
    other = bootstrap((marks[0],), np.mean, method="percentile", n_resamples=4000, random_state=1).confidence_interval
    assert found.mean == pytest.approx(marks.mean())
    assert found.low == pytest.approx(other.low, abs=0.4) and found.high == pytest.approx(other.high, abs=0.4)
    apart = np.concatenate([marks * 0 + 20, marks * 0 + 40])
    wide = interval_of(Resamples(pictures, 2, 4000).means(Answered(apart, pictures)))
    assert (wide.mean, wide.low, wide.high) == (30, 20, 40)
    twice = Answered(np.repeat(marks, 2, 1), tuple(np.repeat(pictures, 2)))  # two questions of a picture are no news
    doubled = interval_of(Resamples(pictures, 1, 4000).means(twice))
    assert (doubled.low, doubled.high) == pytest.approx((found.low, found.high), abs=1e-9)
    draws = Resamples(pictures, 1, 500)
    paired = draws.means(Answered(marks + 5, pictures)) - draws.means(Answered(marks, pictures))
    assert np.allclose(paired, 5)


def test_two_processes_share_the_rows(tmp_path):
    there = FileLock(tmp_path / "b.lock")
    there.acquire()
    seen = []
    for name in contest.in_turn(["a", "b", "c"], tmp_path, patience=0.01):
        seen.append(name)
        with pytest.raises(Timeout):
            FileLock(tmp_path / f"{name}.lock").acquire(timeout=0)
        if name == "c":
            there.release()
    assert seen == ["a", "c", "b"]
    with pytest.raises(InputError, match=r"understanding.tables: there is no '7'; there are 3, 4, 4Z, 5, A1"):
        contest.write_tables(Preset(understanding=UnderstandingPreset(tables=("7",))), tmp_path, tmp_path)


def test_the_commonest_answer_is_that_of_training():
    def example(kind, said, task="gqa"):
        return Example((), "q", (said,), fields={"kind": kind, "task": task})

    train = [example("what", "fox"), example("what", "fox"), example("what", "cat"), example("caption", "a", "cococap")]
    test = [example("what", "cat"), example("what", "fox"), example("what", "fox"), example("caption", "a", "cococap")]
    assert commonest(train, test) == {"what": pytest.approx(200 / 3)}


def test_a_page_without_a_run_says_so_everywhere():
    settings = json.loads(json.dumps(UnderstandingPreset().__dict__))
    empty = {"sets": ["scenes", "clips"], "settings": settings, "commonest": {"what": 1.0}, "rows": {},
             "differences": {}, "distances": {}, "missing": {"after": "no such encoder"}}  # fmt: skip
    page = to_page(empty)
    assert "| what | 1.0 | not yet run | not yet run | not yet run |" in page
    assert "Wanted of after ViLex less before ViLex, in the mean: at least 5 points: not yet run." in page
    assert "after ViLex: not yet run." in page and "holds" not in page


def run(tmp_path, data, out, *stages):
    (tmp_path / "small.toml").write_text(SMALL)
    sys.argv = ["nano", *stages, "--preset", str(tmp_path / "small.toml"), "--data", str(data), "--out", str(out)]
    command.main()


def test_one_command_makes_towers_and_tables_and_goes_on(data, easy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", sys.argv)
    out, rng = tmp_path / "out", np.random.default_rng(0)
    out.mkdir()
    for name in ("scenes", "held-out"):
        rows = []
        for _ in range(12):
            scene = random_scene(drawings(), rng)
            shown = [placed.sprite for placed in scene.objects]
            rows.append(
                table_row(scene.render(), captions_of(scene, rng), [s.concept for s in shown], [s.style for s in shown])
            )
        pa.parquet.write_table(pa.Table.from_pylist(rows), out / f"{name}.parquet")
    run(tmp_path, data, out, "tower", "understanding", "understanding.tables=[]")
    run(tmp_path, data, out, "understanding", 'understanding.tables=["3"]')
    (home,) = (out / "understanding").glob("contest-*")
    first = json.loads((home / "results.json").read_text())
    assert set(first["rows"]) == {"before"} and set(first["missing"]) == {"control", "after"}
    assert "run stage vilex first" in capsys.readouterr().out
    run(tmp_path, data, out, "vilex", "towers")
    preset = load_toml(Preset, tmp_path / "small.toml")
    assert shown_by_vilex(preset, tmp_path) == 8
    towers = {name: SiglipVisionModel.from_pretrained(encoder_folder(out, name)) for name in ("before", "control")}
    assert not torch.equal(*(one.post_layernorm.weight for one in towers.values()))
    lengths = {
        name: load_encoder(str(encoder_folder(out, name))).config.training["steps"]
        for name in ("quarter", "half", "after")
    }
    assert lengths == {"quarter": 1, "half": 2, "after": 4}
    weights = [load_encoder(str(encoder_folder(out, name))).tower.state_dict() for name in ("quarter", "half", "after")]
    assert len({tuple(one["post_layernorm.weight"].tolist()) for one in weights}) == 3
    assert [load_encoder(str(encoder_folder(out, f"blocks-{n}"))).config.blocks for n in (2, 5, 8)] == [2, 5, 8]
    table = pa.parquet.read_table(out / "understanding" / "zoomed.parquet").to_pylist()
    assert len(table) == 10 and [row["captions"] == [PART] for row in table] == [False, *[True] * 4] * 2
    assert load_encoder(str(encoder_folder(out, "zoomed"))).config.training["steps"] == 1
    run(tmp_path, data, out, "towers", "understanding")
    found = json.loads((home / "results.json").read_text())
    assert set(found["rows"]) == {"before", "control", "after", "quarter", "half"} and not found["missing"]
    assert found["rows"]["before"] == first["rows"]["before"]  # nothing was run again
    kinds = set(found["rows"]["after"]["kinds"])
    assert {"what", "style", "caption", "refer", "clip", "easy-vqa", "nlvr", "questions of scenes, mean"} <= kinds
    assert found["rows"]["after"]["runs"] == 2 and set(found["distances"]) == {"after", "quarter", "half"}
    assert found["differences"]["after - control"]["what"].keys() == {"mean", "low", "high"}
    page = (home / "results.md").read_text()
    assert "not yet run" not in page and "no pooler" in page and page.count("## Table") == 2
    caches = list((out / "understanding" / "features").iterdir())
    assert len(caches) == 5 and all(list(one.glob("*.safetensors")) for one in caches)
