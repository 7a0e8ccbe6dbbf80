import io

import numpy as np
import pytest
from PIL import Image

from vilex.errors import InputError
from vilex.pictures.inputs import each_picture, open_picture
from vilex.pictures.load import load_image


@pytest.fixture
def path(tmp_path, pictures):
    pictures[0].save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


def test_every_form_of_a_picture_is_the_same_picture(path):
    image = load_image(path)
    pixels = np.asarray(image)
    with path.open("rb") as file:
        forms = [path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), file, image, pixels]
        forms += [pixels / 255, np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])]
        forms += [np.asfortranarray(pixels), memoryview(path.read_bytes())]
        for form in forms:
            assert np.array_equal(np.asarray(open_picture(form)), pixels), type(form)


def test_greys_masks_and_transparency_of_arrays():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for form in (grey, grey[:, :, None]):
        assert np.array_equal(np.asarray(open_picture(form))[..., 1], grey)
    assert np.asarray(open_picture(grey > 31)).tolist() == np.repeat(((grey > 31) * 255)[..., None], 3, 2).tolist()
    clear = np.zeros((4, 4, 4), np.uint8)
    assert np.asarray(open_picture(clear)).min() == 255


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"got \[3, 8, 8\]; put channels last"),
        (np.zeros((8, 8, 5), np.uint8), r"got \[8, 8, 5\]$"),
        (np.zeros(8), r"got \[8\]"),
        (np.full((8, 8, 3), 2.0), "floats in 0..1"),
        (np.full((8, 8, 3), np.nan), "finite floats"),
        (np.zeros((8, 8, 3), np.int64), "got int64"),
        (np.zeros((0, 8, 3), np.uint8), "it: "),
        (b"", "it: the file is empty"),
        (b"no picture", "it: not a readable image"),
        (3, "it: expected a path, bytes, an open file, a PIL image or an array .*got int"),
        (None, "got NoneType"),
    ],
)
def test_other_forms_are_one_line(form, message):
    with pytest.raises(InputError, match=message):
        open_picture(form, "it")


def test_one_several_folders_and_patterns(tmp_path, pictures, path, monkeypatch):
    folder = tmp_path / "more [1]"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "deep/c.png"):
        pictures[1].save(folder / name)
    (folder / "a.txt").write_text("a cat")
    monkeypatch.chdir(tmp_path)

    def names(given):
        return [name for name, _ in each_picture(given)]

    assert names("cat.png") == names(["cat.png"]) == ["cat.png"]
    assert names("more [1]") == ["more [1]/a.JPG", "more [1]/b.png"]
    assert names(["cat.png", folder.relative_to(tmp_path)]) == ["cat.png", "more [1]/a.JPG", "more [1]/b.png"]
    assert names("**/*") == ["cat.png", "more [1]/a.JPG", "more [1]/b.png", "more [1]/deep/c.png"]
    assert names("c?t.png") == ["cat.png"]
    assert names(pictures[0]) == ["image 0"] and names(iter(pictures)) == [f"image {i}" for i in range(8)]
    assert names(np.zeros((2, 8, 8, 3), np.uint8)) == ["image 0", "image 1"]
    (tmp_path / "c*t.png").write_bytes(path.read_bytes())  # a file of that very name is no pattern
    assert names("c*t.png") == ["c*t.png"]
    (tmp_path / "empty").mkdir()
    for given, message in (
        ("*.gif", "matches no picture"),
        ("empty", "a folder without pictures"),
        ([], "at least one"),
        ("", "expected a path, got an empty one"),
    ):
        with pytest.raises(InputError, match=message):
            names(given)


def test_names_longer_than_files_have_are_one_line():
    for name, picture in each_picture("a" * 5000):
        with pytest.raises(InputError, match="File name too long"):
            open_picture(picture, name)


def test_large_pictures_are_read_small(tmp_path):
    Image.new("RGB", (3000, 2000), "red").save(tmp_path / "large.png")
    for form in (tmp_path / "large.png", (tmp_path / "large.png").read_bytes(), np.zeros((2000, 3000, 3), np.uint8)):
        assert min(open_picture(form, side=64).size) == 192
