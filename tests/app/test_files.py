"""Visitors' files: whose they are, how long they stay, how many there may be."""

import pytest

from vilex.app.files import Files
from vilex.app.limits import Limits
from vilex.errors import InputError


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def files(now):
    kept = Files(Limits(keep=60, stored=100), lambda: now[0])
    yield kept
    kept.close()


def test_only_its_owner_reads_a_file(files):
    path = files.put("cat.png", b"cat", "anna")
    assert path.read_bytes() == b"cat" and path.name == "cat.png"
    assert files.readable(str(path), "anna")
    assert not files.readable(str(path), "bert") and not files.readable(str(path), "")


def test_a_file_of_nobody_is_read_by_who_knows_its_name_and_nobody_can_guess_it(files):
    one, other = (files.put("cat.png", b"same", "") for _ in range(2))
    assert files.readable(str(one), "anna") and one != other
    assert len(one.parent.name) >= 32


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "", None, 3, "cat.png", "{root}", "{root}/x/cat.png", "{path}/../cat.png", "{path}\0"]
)
def test_what_was_not_put_there_is_read_by_nobody(files, name):
    path = files.put("cat.png", b"cat", "")
    (files.root / "x").mkdir()
    (files.root / "x" / "cat.png").write_bytes(b"not put")
    if isinstance(name, str):
        name = name.replace("{root}", str(files.root)).replace("{path}", str(path))
    assert not files.readable(name, "anna")


@pytest.mark.parametrize("name", ["../../up.png", ".hidden", "a/b.png", "nul", "a" * 500, "<b>x</b>.png", ""])
def test_names_are_names_of_one_file_in_a_folder_of_its_own(files, name):
    path = files.put(name, b"x", "")
    assert path.parent.parent == files.root and path.is_file() and not path.name.startswith(".")


def test_files_are_deleted_when_their_time_is_over_and_not_before(files, now):
    old = files.put("old.png", b"x", "anna")
    now[0] = 30
    young = files.put("young.png", b"x", "anna")
    now[0] = 59.9
    assert files.sweep() == 0 and old.exists()
    now[0] = 60
    assert files.sweep() == 1
    assert not old.parent.exists() and not files.readable(str(old), "anna")
    assert young.exists() and files.readable(str(young), "anna")


def test_there_is_an_end_to_what_is_stored_and_room_again_after_a_while(files, now):
    files.put("a", b"x" * 90, "")
    with pytest.raises(InputError, match="as many files as it may"):
        files.put("b", b"x" * 11, "")
    files.put("c", b"x" * 10, "")
    now[0] = 61
    files.sweep()
    files.put("b", b"x" * 11, "")


def test_nothing_is_left_behind(now):
    files = Files(Limits(), lambda: now[0])
    files.put("a", b"x", "")
    files.close()
    assert not files.root.exists()


def test_others_of_this_machine_cannot_look_in(files):
    assert files.root.stat().st_mode & 0o077 == 0
