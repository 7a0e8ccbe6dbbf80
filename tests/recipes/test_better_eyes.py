"""The command that measures the embedded encoder's eyes, on tables in the real ones' shape."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image, ImageDraw

from recipes.nano.better_eyes import compose_scenes, compose_styles, measure, parse, style_mask
from recipes.nano.sprites import CONCEPTS, STYLES, Sprite, load_sprites
from recipes.nano.understanding.scenes import SIDE, random_wide_scene
from vilex.eval.eyesight.labelled import read_labelled
from vilex.eval.eyesight.masked import read_mask, read_masked


def png(image):
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    rows = []
    for i, concept in enumerate(CONCEPTS[:30]):
        for k, style in enumerate(STYLES):
            image = Image.new("RGBA", (64, 64))
            ImageDraw.Draw(image).ellipse((4, 4, 60, 60), fill=(40 * k, 255 - 40 * k, 8 * i))
            rows.append({"image": png(image), "name": concept, "style": style})
    pa.parquet.write_table(pa.Table.from_pylist(rows), folder / "emoji-64px.parquet")
    for part, count in (("train-0of2", 30), ("train-1of2", 30), ("val", 12)):
        photos = [
            {"image": png(Image.fromarray(rng.integers(0, 128 + 100 * (i % 3 == 0), (64, 64, 3), dtype=np.uint8))),
             "name": ("sock", "jellyfish", "taxi")[i % 3], "wnid": "n0"}
            for i in range(count)
        ]  # fmt: skip
        pa.parquet.write_table(pa.Table.from_pylist(photos), folder / f"tiny-imagenet-{part}.parquet")
    return folder


def test_a_mask_is_where_drawings_are_and_of_what_style(data):
    sprites = load_sprites(data / "emoji-64px.parquet")
    for seed in range(20):
        scene = random_wide_scene(sprites, np.random.default_rng(seed))
        mask = np.asarray(style_mask(scene))
        assert mask.shape == (SIDE, SIDE) and (mask > 0).sum() == sum(scene.mask(thing).sum() for thing in scene.things)
        for thing in scene.things:
            assert set(mask[scene.mask(thing)]) == {1 + list(STYLES).index(thing.sprite.style)}


def test_what_is_tested_is_held_out_of_what_teaches(data, tmp_path):
    sprites = load_sprites(data / "emoji-64px.parquet")
    held_out = [one for one in sprites if one.held_out]
    assert 0 < len(held_out) < len(sprites) / 2
    train, test = (read_labelled(str(path)) for path in compose_styles(sprites, tmp_path))
    assert len(test) == len(held_out) and len(train) + len(test) == len(sprites)
    assert set(test.classes) <= set(train.classes) == set(STYLES)
    folders = compose_scenes(sprites, tmp_path, (8, 4))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    assert len(before) == 24 and compose_scenes(sprites, tmp_path, (8, 4)) == folders
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before
    for folder, count in zip(folders, (8, 4), strict=True):
        found = read_masked(folder)
        assert len(found) == count and found.classes == ("ground", *STYLES)
        assert all(read_mask(path).max() > 0 for path in found.masks)
    assert isinstance(sprites[0], Sprite)


def test_the_command_measures_all_three_sets(data, tmp_path, tower_folder, capsys):
    words = ["--data", data, "--out", tmp_path, "--against", tower_folder, "--photographs", "60", "--scenes", "16",
             "--tokens", "2", "--seeds", "0", "1"]  # fmt: skip
    results = measure(parse([*map(str, words)]))
    report = (tmp_path / "eyes" / "report.md").read_text()
    assert list(results) == ["photographs", "styles", "scenes"] and report.strip() in capsys.readouterr().out
    for name, titles in (("photographs", {"k-NN", "linear", "k-NN, 2 tokens", "linear, 2 tokens"}),
                         ("styles", {"k-NN", "linear", "k-NN, 2 tokens", "linear, 2 tokens"}),
                         ("scenes", {"dense mIoU", "dense pixels"})):  # fmt: skip
        assert set(results[name]["rows"]["nano"]) == titles and f"## {name}" in report
        assert json.loads((tmp_path / "eyes" / name / "results.json").read_text()) == results[name]
        assert len(results[name]["differences"][f"nano - {tower_folder}"]) == 2
    assert results["photographs"]["sets"]["test"]["pictures"] == 12
    assert results["styles"]["rows"]["nano"]["linear"]["mean"] > 0.5  # six colours of discs


def test_another_set_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse(["--data", "d", "--out", "o", "--sets", "videos"])
    assert "--sets videos: expected photographs, styles or scenes" in capsys.readouterr().err
