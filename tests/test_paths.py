import pytest

from vilex.paths import file_name, replacing, write_text


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


def test_a_file_that_could_not_be_finished_leaves_the_old_one(tmp_path):
    path = tmp_path / "new" / "results.json"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as aside:
        aside.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]
