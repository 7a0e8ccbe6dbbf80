"""Features on disk: what is read is what was computed, once, and what was stopped goes on."""

import json
import pickle

import pytest
import torch
from PIL import Image

from tests.understand.test_features import see
from vilex.errors import InputError
from vilex.understand import cache
from vilex.understand.cache import FeatureCache, picture_hash


@pytest.fixture
def files(tmp_path, pictures):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, picture in enumerate(pictures):
        picture.save(folder / f"{i}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def features(model_folder):
    return see(model_folder, "patches+tokens")


def counted(features, monkeypatch):
    """How many pictures the eyes have looked at."""
    seen = []
    whole = type(features).__call__
    monkeypatch.setattr(
        type(features), "__call__", lambda self, pixels: seen.append(len(pixels)) or whole(self, pixels)
    )
    return seen


def test_what_is_read_is_what_was_computed(tmp_path, files, features):
    kept = FeatureCache(tmp_path / "cache", features, torch.float32)
    assert kept.fill(files, features, batch_size=3) == [] and len(kept) == 8
    again = pickle.loads(pickle.dumps(FeatureCache(tmp_path / "cache", features, torch.float32)))
    for path in files:
        own = features.of_images([Image.open(path)])
        for mine, theirs in zip(again[picture_hash(path)], own, strict=True):
            assert torch.allclose(mine, theirs[0], atol=1e-6)
    about = json.loads((kept.folder / "about.json").read_text())
    assert about["kind"] == "patches+tokens" and about["kept_as"] == "float32"


def test_each_picture_is_looked_at_once_wherever_it_lies(tmp_path, files, pictures, features, monkeypatch):
    seen = counted(features, monkeypatch)
    kept = FeatureCache(tmp_path / "cache", features)
    copy = tmp_path / "copy.png"
    copy.write_bytes(files[0].read_bytes())
    kept.fill([*files, copy, files[3]], features)
    assert sum(seen) == 8
    kept.fill([copy, pictures[0]], features)  # a picture in memory is known by its pixels
    assert sum(seen) == 9 and picture_hash(pictures[0]) in kept
    files[0].write_bytes(files[1].read_bytes())  # other bytes under an old name are another picture
    assert picture_hash(files[0]) == picture_hash(files[1])


def test_a_stopped_filling_goes_on(tmp_path, files, features, monkeypatch):
    monkeypatch.setattr(cache, "ROWS", 3)
    kept = FeatureCache(tmp_path / "cache", features)

    def stopped(count):
        if count == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.fill(files, features, done=stopped)
    seen = counted(features, monkeypatch)
    kept = FeatureCache(tmp_path / "cache", features)
    assert len(kept) == 3
    kept.fill(files, features)
    assert sum(seen) == 5 and len(FeatureCache(tmp_path / "cache", features)) == 8
    assert not list(kept.folder.glob(".*"))


def test_other_eyes_and_settings_have_other_folders(tmp_path, features, model_folder):
    folders = {FeatureCache(tmp_path, features).folder, FeatureCache(tmp_path, features, torch.float16).folder}
    folders |= {FeatureCache(tmp_path, see(model_folder, "patches")).folder}
    assert len(folders) == 3


def test_broken_pictures_are_a_line_each_and_the_others_are_done(tmp_path, files, features):
    files[2].write_bytes(b"no picture")
    kept = FeatureCache(tmp_path / "cache", features)
    refused = kept.fill([*files, tmp_path / "missing.png"], features)
    assert len(kept) == 7 and len(refused) == 2
    assert "2.png: not a readable image" in refused[0] and "missing.png: cannot be read" in refused[1]


def test_a_damaged_file_is_named(tmp_path, files, features):
    kept = FeatureCache(tmp_path / "cache", features)
    kept.fill(files, features)
    (path,) = kept.folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=rf"{path.name}: damaged features .* remove it"):
        FeatureCache(tmp_path / "cache", features)
