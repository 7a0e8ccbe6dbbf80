"""Previews: what they score, and by what."""

import io
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from vilex.encoder.towers import load_tower, patches_of
from vilex.errors import InputError
from vilex.train import previews as previews_module
from vilex.train.previews import Previews, psnr
from vilex.train.training import Training


@pytest.fixture
def training(configure):
    return Training(configure(run={"sample_every": 5, "sample_images": 3}))


def scores_of(training, monkeypatch, drawn):
    """Of pictures that stand for what would be drawn: a function of the source and the number of tokens."""
    made = Previews(training.config, training.t2i, training.first_tower)
    monkeypatch.setattr(
        previews_module.VisualLexicon,
        "reconstruct",
        lambda self, images, count, steps: [drawn(image, count) for image in images],
    )
    return made, made.draw(training.averaged_encoder())


def noisy(image, count):
    """The fewer tokens, the more noise."""
    noise = np.random.default_rng(count).normal(0, 200 / count, np.asarray(image).shape)
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def test_scores_tell_pictures_that_are_alike_from_those_that_are_not(training, monkeypatch):
    _, (picture, same) = scores_of(training, monkeypatch, lambda image, _: image)
    assert same["similarity_8"] == pytest.approx(1) and same["psnr_8"] > 100
    _, (_, worse) = scores_of(training, monkeypatch, noisy)
    assert worse.keys() == {f"{name}_{count}" for name in ("psnr", "similarity") for count in (1, 4, 8)}
    assert worse["similarity_1"] < worse["similarity_4"] < worse["similarity_8"] < 0.9999
    assert worse["psnr_1"] < worse["psnr_4"] < worse["psnr_8"]
    assert picture.width > 4 * picture.height / 4


def test_similarity_is_by_the_tower_as_it_was_before_training(training, tower_folder, monkeypatch):
    with torch.no_grad():
        for parameter in training.bare.tower.parameters():
            parameter.normal_()  # as if training had made it useless
    made, (_, scores) = scores_of(training, monkeypatch, noisy)
    tower = load_tower(str(tower_folder)).eval()
    with torch.no_grad():
        before, after = (
            patches_of(tower, training.bare.preprocess(images)).mean(1)
            for images in (made.images, [noisy(image, 4) for image in made.images])
        )
    assert scores["similarity_4"] == pytest.approx(F.cosine_similarity(before, after).mean().item(), rel=1e-5)


def test_the_first_tower_is_kept_over_a_resumed_run_and_read_from_disk_once(training, tower_folder, monkeypatch):
    with torch.no_grad():
        training.bare.tower.embeddings.patch_embedding.weight.add_(1)
    training.step, training.saved = 3, -1
    training.out.mkdir()
    training.save()
    again = Training(training.config)
    assert again.step == 3
    first = load_tower(str(tower_folder)).state_dict()
    assert all(torch.equal(value, first[name]) for name, value in again.first_tower.state_dict().items())
    monkeypatch.setattr("vilex.encoder.towers.load_tower", None)
    scores_of(again, monkeypatch, noisy)


def test_runs_without_previews_keep_no_tower(configure):
    assert Training(configure(run={"sample_every": 0})).first_tower is None


def test_psnr_is_the_closed_form():
    black, grey = Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), (10, 10, 10))
    assert psnr(black, grey) == pytest.approx(20 * np.log10(255 / 10))


def test_validation_images_need_no_captions(configure, tmp_path, monkeypatch):
    content = io.BytesIO()
    Image.new("RGB", (20, 20), (9, 9, 9)).save(content, "PNG")
    pyarrow.parquet.write_table(pyarrow.table({"image": [content.getvalue()]}), tmp_path / "held.parquet")
    data = {"validation": str(tmp_path / "held.parquet"), "caption_column": "prompt"}
    training = Training(configure(run={"sample_every": 5}))
    (image,) = Previews(configure(data=data), training.t2i, training.first_tower).images
    assert image.getpixel((0, 0)) == (9, 9, 9)


def test_validation_images_are_shown_where_there_are_some(configure, tmp_path, monkeypatch):
    (tmp_path / "held").mkdir()
    Image.new("RGB", (20, 20), (9, 9, 9)).save(tmp_path / "held" / "a.png")
    training = Training(configure(run={"sample_every": 5}, data={"validation": str(tmp_path / "held")}))
    (image,) = Previews(training.config, training.t2i, training.first_tower).images
    assert image.getpixel((0, 0)) == (9, 9, 9) and image.size == (16, 16)
    wrong = configure(run={"sample_every": 5}, data={"validation": str(tmp_path / "held" / "a.png")})
    with pytest.raises(InputError, match=r"data\.validation: .*a\.png: an image; give the folder"):
        Previews(wrong, training.t2i, training.first_tower)
    Path(tmp_path / "held" / "a.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"none of the first images can be read; see data\.path and data\.validation"):
        Previews(training.config, training.t2i, training.first_tower)
