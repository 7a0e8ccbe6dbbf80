"""What commands leave behind: nothing overwritten, nothing half written, and a manifest that says what is there."""

import errno
import json
import os
import subprocess
import sys
import threading

import pytest
from PIL import Image

from vilex.cli.manifest import Output, check_file, check_folder
from vilex.errors import InputError
from vilex.paths import write_keeping, write_new

RED = Image.new("RGB", (4, 4), "red")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def manifest(folder, name="manifest.json"):
    return json.loads((folder / name).read_text())


def test_the_same_command_twice_numbers_its_pictures(tmp_path):
    (tmp_path / "b.png").write_bytes(b"a stranger's")
    for seed in (1, 2, 3):
        with Output(tmp_path, "generate", {"seed": seed}, ["a.png", "b.png"]) as output:
            output.picture("a.png", RED)
            output.picture("b.png", RED)
    pictures = ["a.png", "a~2.png", "a~3.png", "b.png", "b~2.png", "b~2~2.png", "b~3.png"]
    assert names(tmp_path) == sorted([*pictures, "manifest.json", "manifest~2.json", "manifest~3.json"])
    assert (tmp_path / "b.png").read_bytes() == b"a stranger's"
    for number, files in {
        "": ["a.png", "b~2.png"],
        "~2": ["a~2.png", "b~2~2.png"],
        "~3": ["a~3.png", "b~3.png"],
    }.items():
        content = manifest(tmp_path, f"manifest{number}.json")
        assert [file["file"] for file in content["files"]] == files and content["missing"] == []
        seeds = {json.loads(Image.open(tmp_path / file).text["vilex"])["seed"] for file in files}
        assert seeds == {content["seed"]}


def test_overwrite_is_asked_for(tmp_path):
    for seed in (1, 2):
        with Output(tmp_path, "generate", {"seed": seed}, overwrite=True) as output:
            output.picture("a.png", RED)
    assert names(tmp_path) == ["a.png", "manifest.json"] and manifest(tmp_path)["seed"] == 2


def test_an_interrupted_command_keeps_its_pictures_and_says_what_is_missing(tmp_path, capsys):
    with (
        pytest.raises(KeyboardInterrupt),
        Output(tmp_path, "generate", {}, ["a.png", "b.png", "c.png"]) as output,
    ):
        output.picture("a.png", RED)
        raise KeyboardInterrupt
    assert (
        names(tmp_path) == ["a.png", "manifest.json"] and "stopped: 1 of 3 pictures are in" in capsys.readouterr().err
    )
    assert manifest(tmp_path)["missing"] == ["b.png", "c.png"] and Image.open(tmp_path / "a.png").size == (4, 4)


def test_a_killed_command_leaves_a_whole_manifest(tmp_path):
    code = f"""
import os, pathlib
from PIL import Image
from vilex.cli.manifest import Output
with Output(pathlib.Path({str(tmp_path)!r}), "generate", {{}}, ["a.png", "b.png"]) as output:
    output.picture("a.png", Image.new("RGB", (4, 4)))
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert set(manifest(tmp_path)["missing"]) <= {"a.png", "b.png"} and names(tmp_path) == ["a.png", "manifest.json"]


def test_a_command_that_fails_before_its_first_picture_leaves_nothing(tmp_path):
    with pytest.raises(InputError), Output(tmp_path / "out", "generate", {}, ["a.png"]):
        raise InputError("no such image")
    assert names(tmp_path) == []


def test_many_at_once_each_get_their_own_names(tmp_path):
    def draw(number):
        with Output(tmp_path, "generate", {"number": number}) as output:
            for i in range(3):
                output.picture(f"{i}.png", Image.new("RGB", (2, 2), (number, i, 0)), number=number)

    threads = [threading.Thread(target=draw, args=(n,)) for n in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    manifests = [json.loads(path.read_text()) for path in tmp_path.glob("manifest*.json")]
    assert sorted(one["number"] for one in manifests) == list(range(8))
    assert len(list(tmp_path.glob("*.png"))) == 24 and len(names(tmp_path)) == 32
    for one in manifests:
        pixels = [Image.open(tmp_path / file["file"]).getpixel((0, 0)) for file in one["files"]]
        assert pixels == [(one["number"], i, 0) for i in range(3)]


def test_where_a_file_system_has_no_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert [write_new(tmp_path / "a.png", b"%d" % i).name for i in range(3)] == ["a.png", "a~2.png", "a~3.png"]
    assert (tmp_path / "a~3.png").read_bytes() == b"2" and len(names(tmp_path)) == 3


def test_targets_that_cannot_be_written_are_named_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    check_folder(tmp_path / "new" / "deeper")
    assert names(tmp_path) == ["file"]
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match="give another folder with -o") as caught:
            check_folder(folder)
        assert "\n" not in str(caught.value)
    check_file(tmp_path / "new.onnx")
    check_file(tmp_path / "file", overwrite=True)
    for path, message in ((tmp_path, "a folder; give a file's name"), (tmp_path / "file", "exists; give another name")):
        with pytest.raises(InputError, match=message):
            check_file(path)


def test_a_full_disk_is_one_line_and_keeps_what_was_written(tmp_path, monkeypatch):
    with (
        pytest.raises(InputError, match=r"b.png: cannot be written \(No space left"),
        Output(tmp_path, "generate", {}, ["a.png", "b.png"]) as output,
    ):
        output.picture("a.png", RED)
        monkeypatch.setattr("vilex.cli.manifest.write_new", full)
        output.picture("b.png", RED)
    assert manifest(tmp_path)["missing"] == ["b.png"] and names(tmp_path) == ["a.png", "manifest.json"]


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    with Output(tmp_path, "generate", {"source": f"{name}.png"}) as output:
        output.picture(f"{name}.png", RED, source=name)
    assert manifest(tmp_path)["source"] == f"{name}.png" and manifest(tmp_path)["files"][0]["file"] == f"{name}.png"
    assert json.loads(Image.open(tmp_path / f"{name}.png").text["vilex"])["source"] == name


def test_other_results_of_a_folder_are_kept(tmp_path):
    for text in ("one", "two", "two", "three"):
        write_keeping(tmp_path / "results.json", text)
    kept = {name: (tmp_path / name).read_text() for name in names(tmp_path)}
    assert kept == {"results.json": "three", "results~2.json": "one", "results~3.json": "two"}
