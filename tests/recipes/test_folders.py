"""A stage's result is whole or not there."""

import pytest

from recipes.nano.folders import replacing_folder


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
