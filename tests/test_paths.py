import time

import pytest

from vilex.paths import file_name, replacing, unique_names, write_text


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
