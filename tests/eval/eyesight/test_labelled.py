"""Sets with classes: folders of folders, and tables."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from tests.eval.eyesight.conftest import COLOURS
from vilex.errors import InputError
from vilex.eval.eyesight.labelled import evenly, read_labelled, with_classes


def encoded(colour):
    content = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(content, "PNG")
    return content.getvalue()


def table(path, labels, column="label"):
    images = [encoded(list(COLOURS.values())[i % 3]) for i in range(len(labels))]
    pyarrow.parquet.write_table(pa.table({"image": images, column: labels}), path)
    return str(path)


def test_a_folder_s_classes_are_its_folders_whatever_lies_deeper(coloured, tmp_path):
    found = read_labelled(str(coloured))
    assert found.classes == tuple(COLOURS) and len(found) == 48
    assert [found.picture(i).parent.name for i in (0, 20, 47)] == [found.classes[found.labels[i]] for i in (0, 20, 47)]
    (tmp_path / "a" / "images").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    for path in (tmp_path / "a" / "images" / "0.png", tmp_path / "b" / "0.png"):
        path.write_bytes(encoded("red"))
    assert read_labelled(str(tmp_path)).classes == ("a", "b")
    (tmp_path / "stray.png").write_bytes(encoded("red"))
    with pytest.raises(InputError, match=r"stray\.png: lies in no class's folder; put the pictures of each class"):
        read_labelled(str(tmp_path))


@pytest.mark.parametrize("labels", [["cat", "dog", "cat"], [7, 10, 7]])
def test_a_table_s_classes_are_texts_or_whole_numbers(tmp_path, labels):
    found = read_labelled(table(tmp_path / "t.parquet", labels, "kind"), "kind")
    assert found.classes == tuple(sorted(set(map(str, labels))))
    assert [found.classes[label] for label in found.labels] == [str(label) for label in labels]
    assert found.picture(1).convert("RGB").getpixel((0, 0)) == COLOURS["green"]


def test_a_dataset_s_numbers_have_its_names(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dog", "cat"])})
    rows = {"image": [Image.new("RGB", (8, 8), COLOURS["red"])] * 3, "label": [1, 0, 1]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    found = read_labelled(str(tmp_path / "set"))
    assert found.classes == ("cat", "dog") and found.labels.tolist() == [0, 1, 0]
    assert found.picture(2).getpixel((0, 0)) == COLOURS["red"]


def test_so_many_are_the_same_ones_every_time_and_of_all_classes(coloured):
    first, again = (read_labelled(str(coloured), images=14) for _ in range(2))
    assert sorted(np.bincount(first.labels)) == [4, 5, 5] and first.classes == tuple(COLOURS)
    assert [first.picture(i) for i in range(14)] == [again.picture(i) for i in range(14)]
    assert [first.classes[label] for label in first.labels] == [first.picture(i).parent.name for i in range(14)]
    assert evenly(["a"] * 100 + ["b"] * 2, 10).tolist()[-2:] == [100, 101]
    assert evenly(["a", "b"], 10).tolist() == [0, 1]


def test_a_test_set_goes_by_the_classes_that_were_learned(tmp_path):
    known = read_labelled(table(tmp_path / "a.parquet", ["cat", "dog", "fox"]))
    asked = read_labelled(table(tmp_path / "b.parquet", ["fox", "cat"]))
    assert with_classes(asked, known.classes).tolist() == [2, 0]
    other = read_labelled(table(tmp_path / "c.parquet", ["fox", "cow"]))
    with pytest.raises(InputError, match=r"c\.parquet: class 'cow' has no picture to learn from"):
        with_classes(other, known.classes)


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (["cat", None], r"row 1: expected a class in column 'label', got None"),
        (["cat", ""], r"row 1: expected a class in column 'label', got ''"),
        ([0.5, 1.5], r"row 0: expected a class in column 'label', got 0\.5"),
        (["cat", "cat"], r"holds one class alone, 'cat'"),
    ],
)
def test_what_is_no_class_is_named(tmp_path, labels, line):
    with pytest.raises(InputError, match=line):
        read_labelled(table(tmp_path / "t.parquet", labels))


def test_a_column_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no caption column 'species', only image, label"):
        read_labelled(table(tmp_path / "t.parquet", ["a", "b"]), "species")
    np.savez(tmp_path / "x.npz")
    with pytest.raises(InputError, match="nowhere"):
        read_labelled(str(tmp_path / "nowhere"))
