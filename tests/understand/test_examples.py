"""The one form of example, read and written; what is wrong is one line that names line and key."""

import json
from pathlib import Path

import pytest
from PIL import Image

from vilex.errors import InputError
from vilex.understand.examples import Example, read_examples, write_examples


def written(folder, *lines):
    path = folder / "train.jsonl"
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def test_lines_of_big_vision_and_of_roboflow(tmp_path):
    path = written(
        tmp_path,
        {"image": "a.jpg", "prefix": "caption en", "suffix": "a cat"},
        "\n",
        {"image": ["f/0.jpg", "f/1.jpg"], "prefix": "answer en what?", "suffix": ["cat", "a cat"], "id": 7,
         "references": "cat", "question_type": "what"},
        {"image": "b.jpg", "prefix": "caption de"},
    )  # fmt: skip
    first, second, third = read_examples(path)
    assert first == Example((tmp_path / "a.jpg",), "caption en", ("a cat",), "1")
    assert first.truths == ("a cat",) and second.truths == ("cat",)
    assert second.images == (tmp_path / "f/0.jpg", tmp_path / "f/1.jpg") and second.id == "7"
    assert second.suffixes == ("cat", "a cat") and second.fields == {"question_type": "what"}
    assert third.suffixes == () and third.id == "4"


def test_what_is_written_is_read_again(tmp_path):
    picture = Image.new("RGB", (4, 3), "red")
    examples = [
        Example((tmp_path / "pictures" / "ä.jpg",), "caption en", ("eine Straße", "b"), "1", (), {"n": [1, None]}),
        Example((picture,), "answer en what?", (), "../odd", ("x",)),
    ]
    path = tmp_path / "sets" / "made.jsonl"
    assert write_examples(path, examples, tmp_path) == 2
    first, second = read_examples(path, tmp_path)
    assert first == examples[0]
    assert second.prefix == "answer en what?" and second.truths == ("x",) and second.id == "../odd"
    assert second.images[0].parent == tmp_path / "sets" / "made"
    assert Image.open(second.images[0]).tobytes() == picture.tobytes()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: not valid JSON"),
        ("[1]", "line 2: expected an object with image, prefix and suffix, got [1]"),
        ('{"prefix": "x"}', "line 2: no 'image', only prefix"),
        ('{"image": "a.jpg", "suffix": "x"}', "line 2: no 'prefix', only image, suffix"),
        ('{"image": 3, "prefix": "x"}', "line 2: 'image': expected a text or a list of texts, got 3"),
        ('{"image": [], "prefix": "x"}', "line 2: 'image': expected at least one, got none"),
        ('{"image": "a.jpg", "prefix": null}', "line 2: 'prefix': expected a text, got None"),
        ('{"image": "a.jpg", "prefix": "x", "suffix": [1]}', "line 2: 'suffix': expected a text, got 1"),
        ('{"image": "a.jpg", "prefix": "x", "id": true}', "line 2: 'id': expected a text or a whole number, got True"),
        ('{"image": "a.jpg", "prefix": "x", "id": "1"}', "line 2: 'id': '1' is that of line 1; give each its own"),
        ('{"image": "../a.jpg", "prefix": "x"}', "line 2: 'image': '../a.jpg' lies outside"),
        ('{"image": "/etc/a.jpg", "prefix": "x"}', "line 2: 'image': '/etc/a.jpg' lies outside"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, said):
    path = written(tmp_path, {"image": "a.jpg", "prefix": "x"}, line + "\n")
    with pytest.raises(InputError) as at:
        read_examples(path)
    assert said in str(at.value) and str(path) in str(at.value)


def test_files_that_hold_none(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read .*; give a file of JSON lines"):
        read_examples(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="no examples; give a JSON object a line"):
        read_examples(written(tmp_path, "\n"))


def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    with pytest.raises(InputError, match=r"example 3: '.*' lies outside .*; give a folder above it"):
        write_examples(path, [Example((Path("/elsewhere/a.jpg"),), "x", id="3")])
    with pytest.raises(InputError, match="example 4: a field cannot be called 'suffix'"):
        write_examples(path, [Example((tmp_path / "a.jpg",), "x", id="4", fields={"suffix": "y"})])
    assert not path.exists()
