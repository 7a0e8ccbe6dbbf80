"""`vilex eval eyes` as it is typed, on tiny sets and tiny models."""

import json

import pytest
import torch
from PIL import Image
from transformers import SiglipVisionModel
from typer.testing import CliRunner

from tests.eval.eyesight.test_mmvp import published  # noqa: F401 (a fixture)
from vilex.cli.app import app
from vilex.errors import InputError
from vilex.eval.eyesight.looking import chosen_by_content
from vilex.eval.eyesight.measuring import taught
from vilex.eval.eyesight.text_side import TextSide
from vilex.understand.features import ImageFeatures


def run(*words):
    result = CliRunner().invoke(app, ["eval", "eyes", *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def blind(tmp_path_factory, tower_folder):
    """A tower to which all pictures are alike."""
    folder = tmp_path_factory.mktemp("blind")
    tower = SiglipVisionModel.from_pretrained(tower_folder)
    with torch.no_grad():
        tower.embeddings.patch_embedding.weight.zero_()
    tower.save_pretrained(folder)
    return folder


@pytest.fixture
def looked(monkeypatch):
    """How many pictures were looked at."""
    counts = []
    for kind in (ImageFeatures, TextSide):
        call = kind.__call__

        def counted(self, pixels, call=call):
            if len(pixels) > 1 or isinstance(self, ImageFeatures):
                counts.append(len(pixels))
            return call(self, pixels)

        monkeypatch.setattr(kind, "__call__", counted)
    return counts


def test_eyes_that_see_are_better_than_blind_ones(model_folder, blind, coloured, masked, tmp_path, looked):
    words = [model_folder, "--against", blind, "--classes", coloured, "--dense", masked, "--tokens", "4",
             "--seeds", "0,1", "-o", tmp_path / "out"]  # fmt: skip
    said = run(*words).stdout
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    own, other = (results["rows"][str(name)] for name in (model_folder, blind))
    titles = ["k-NN", "linear", "k-NN, 4 tokens", "linear, 4 tokens", "dense mIoU", "dense pixels"]
    assert list(own) == titles and list(other) == [title for title in titles if "tokens" not in title]
    assert all(len(score["seeds"]) == 2 for score in own.values())
    difference = results["differences"][f"{model_folder} - {blind}"]
    for title in ("linear", "dense mIoU"):
        assert difference[title]["low"] > 0, (title, difference)
        assert difference[title]["mean"] == pytest.approx(own[title]["mean"] - other[title]["mean"])
    assert other["linear"]["mean"] < 0.6 and own["linear"]["mean"] > 0.8
    assert results["sets"]["classes"] == {"name": str(coloured), "pictures": 48, "classes": 3}
    assert "Differences, picture by picture" in said and (tmp_path / "out" / "results.md").read_text() in said
    before = sum(looked)
    run(*words)
    assert sum(looked) == before, "nothing is looked at twice"
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results


def test_what_was_seen_before_a_stop_is_kept(model_folder, coloured, tmp_path, looked, monkeypatch):
    monkeypatch.setattr("vilex.understand.cache.ROWS", 16)
    words = [model_folder, "--classes", coloured, "--seeds", "0", "--batch-size", "8", "-o", tmp_path / "out"]
    call = ImageFeatures.__call__

    def stopped(self, pixels):
        if sum(looked) >= 33:
            raise KeyboardInterrupt
        return call(self, pixels)

    monkeypatch.setattr(ImageFeatures, "__call__", stopped)
    CliRunner().invoke(app, ["eval", "eyes", *map(str, words)])
    assert not (tmp_path / "out" / "results.json").exists()
    monkeypatch.setattr(ImageFeatures, "__call__", call)
    before = sum(looked)
    run(*words)
    assert sum(looked) - before == 48 - 32


def test_names_and_pairs_by_a_text_side(readers, published, coloured, tmp_path):  # noqa: F811
    clip = readers["clip"]
    words = [clip, "--classes", coloured, "--zero-shot", "--mmvp", published, "--seeds", "0", "--json"]
    found = json.loads(run(*words, "-o", tmp_path / "own").stdout)
    assert list(found["rows"][str(clip)]) == ["k-NN", "linear", "zero-shot", "MMVP-VLM"]
    assert set(found["notes"][str(clip)]["MMVP-VLM by pattern"]) == {"Color", "Quantity", "Text"}
    assert "MMVP-VLM by pattern" in (tmp_path / "own" / "results.md").read_text()
    assert found["sets"]["mmvp"] == {"pairs": 12}


def test_a_text_side_that_is_given_goes_with_a_tower(readers, tower_folder, published, tmp_path):  # noqa: F811
    words = [tower_folder, "--against", readers["siglip"], "--mmvp", published, "--text", readers["siglip"], "--json"]
    found = json.loads(run(*words, "-o", tmp_path / "out").stdout)
    assert set(found["rows"]) == {str(tower_folder), str(readers["siglip"])}
    own, other = ({k: v["MMVP-VLM"]["mean"] for k, v in found["rows"].items()}[str(name)]
                  for name in (tower_folder, readers["siglip"]))  # fmt: skip
    (difference,) = found["differences"].values()
    assert difference["MMVP-VLM"]["mean"] == pytest.approx(own - other)


def test_a_broken_picture_is_left_out_and_said(model_folder, coloured, tmp_path):
    import shutil

    shutil.copytree(coloured, tmp_path / "set")
    (tmp_path / "set" / "red" / "03.png").write_bytes(b"no picture")
    words = [model_folder, "--classes", tmp_path / "set", "--seeds", "0", "-o", tmp_path / "out"]
    result = run(*words)
    assert result.exit_code == 2 and "03.png: not a readable image" in result.stderr
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], r"^nothing to look at: give --classes, --dense or --mmvp$"),
        (["--zero-shot", "--dense", "{masked}"], "--zero-shot: needs --classes"),
        (["--test", "x", "--dense", "{masked}"], "--test: needs --classes"),
        (["--dense-test", "x", "--classes", "{coloured}"], "--dense-test: needs --dense"),
        (["--classes", "{coloured}", "--zero-shot"], "has no text side; give --text MODEL"),
        (["--classes", "nowhere"], r"^nowhere: no such folder"),
        (["--classes", "{coloured}", "--tokens", "99"], r"^--tokens 99, but .* has 75"),
        (["--classes", "{coloured}", "--template", "a photo"], "--template 'a photo': expected"),
        (["--classes", "{coloured}", "--seeds", "one"], "--seeds one: expected whole numbers"),
        (["--classes", "{coloured}", "--images", "6"], r"class '\w+' has \d picture\(s\) to learn from; expected"),
    ],
)
def test_what_cannot_be_is_one_line(words, line, model_folder, coloured, masked, tmp_path):
    words = [word.format(coloured=coloured, masked=masked) for word in words]
    with pytest.raises(InputError, match=line):
        run(model_folder, *words, "-o", tmp_path / "out")


def test_seeds_teach_four_fifths_of_each_class_and_never_all():
    labels = torch.tensor([0] * 10 + [1] * 2 + [2] * 5)
    first, again, other = (taught(labels, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert [int(first[labels == one].sum()) for one in range(3)] == [8, 1, 4]


def test_what_is_tested_goes_by_content(tmp_path):
    from vilex.understand.cache import picture_hash

    hashes = [picture_hash(Image.new("RGB", (4, 4), (i, 0, 0))) for i in range(200)]
    tested = chosen_by_content(hashes)
    assert 20 <= int(tested.sum()) <= 60
    assert torch.equal(chosen_by_content(hashes[::-1]), tested.flip(0))
