import time

import pytest

from vilex.paths import file_name, replacing, replacing_folder, unique_names, write_text


@pytest.mark.parametrize("name", ["rex", "bear_plushie", "2 tokens, TFG 7.5", "猫", "a.b", "Straße (2)"])
def test_plain_names_stay(name):
    assert file_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["../../x", "/etc/x", "..", ".", "", "a/b", "a\\b", ".hidden", "~/x", "a\0b", "a\nb", "CON", "x" * 300, "ü" * 90,
     "c:x", "trailing.", " x", "-rf", "\ud800", "nul.txt", "*?"],
)  # fmt: skip
def test_others_become_one_new_name_inside_a_folder(name, tmp_path):
    safe = file_name(name)
    path = tmp_path / safe
    path.touch()
    assert path.resolve().parent == tmp_path.resolve() and not safe.startswith((".", "-")) and safe != name
    assert len(safe.encode()) < 120


def test_different_names_never_meet():
    names = ["a/b", "a-b", "a\\b", "a:b", "x" * 300, "x" * 301, "..", ".", "../..", "é", "e\u0301"]
    assert len({file_name(name) for name in names}) == len(names)


def test_what_would_share_a_name_has_its_own():
    given = ["cat", "cat", "cat~2", "cat", "dog", "cat~2"]
    assert unique_names(given) == ["cat", "cat~3", "cat~2", "cat~4", "dog", "cat~2~2"]
    start = time.perf_counter()
    assert len(set(unique_names(["cat"] * 4000 + [f"cat~{i}" for i in range(4000)]))) == 8000
    assert time.perf_counter() - start < 0.5


def test_a_file_that_could_not_be_finished_leaves_the_old_one(tmp_path):
    path = tmp_path / "new" / "results.json"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as aside:
        aside.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_folder_appears_when_it_is_whole(tmp_path):
    with replacing_folder(tmp_path / "deep" / "t2i") as folder:
        folder.mkdir()
        (folder / "config.json").write_text("new")
        assert not (tmp_path / "deep" / "t2i").exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["t2i"]
    assert (tmp_path / "deep" / "t2i" / "config.json").read_text() == "new"


def test_a_folder_that_was_there_stays_until_then_and_leaves_nothing_behind(tmp_path):
    old = tmp_path / "t2i"
    old.mkdir()
    (old / "shard-2").write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing_folder(old) as folder:
        folder.mkdir()
        (folder / "half").write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in old.iterdir()] == ["shard-2"]
    with replacing_folder(old) as folder:
        assert not folder.exists()  # what a killed run left is gone
        folder.mkdir()
        (folder / "shard-1").write_text("new")
    assert [path.name for path in old.iterdir()] == ["shard-1"]
