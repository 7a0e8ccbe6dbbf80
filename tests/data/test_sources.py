import warnings
from contextlib import suppress

import datasets
import pytest

from tests.data.samples import numbered, open_one, write_shards
from vilex.data import open_sources
from vilex.data.config import DataConfig, SourceConfig
from vilex.data.streamed import TarStream, guarded
from vilex.errors import InputError


def test_missing_data_is_named(tmp_path):
    with pytest.raises(InputError, match="no such folder, Parquet"):
        open_one(path=str(tmp_path / "none"))
    with pytest.raises(InputError, match="no images below"):
        open_one(path=str(tmp_path))
    (tmp_path / "t.parquet").write_text("no")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        open_one(path=str(tmp_path / "t.parquet"))
    write_shards(tmp_path / "tars", [1])
    with pytest.raises(InputError, match="tar shards and other files together"):
        open_one(path=f"{tmp_path}/{{tars/000.tar,t.parquet}}")


@pytest.mark.parametrize("path", ["", "hf:"])
def test_a_path_that_names_nothing_is_not_the_folder_one_is_in(tmp_path, monkeypatch, path):
    numbered(0).save(tmp_path / "0.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"data.path: '{path}' names nothing"):
        open_one(path=path)
    with pytest.raises(InputError, match=r"data\.path: expected a text, got None"):
        open_one(path=None)


def test_a_shard_that_the_system_does_not_give_says_why(tmp_path):
    (tmp_path / "000.tar").mkdir()
    source = TarStream([str(tmp_path / "000.tar")], SourceConfig())
    assert [str(one) for one in guarded(source, 0)] == [
        f"{tmp_path}/000.tar: broken shard, the rest of it is lost (Is a directory)"
    ]


@pytest.mark.parametrize("name", ["photos [2020]", "{a,b}", "what*", "[x]{1..3}"])
def test_names_that_look_like_patterns_are_names_where_they_are_there(tmp_path, name):
    write_shards(tmp_path / name, [2, 1])
    for path in (tmp_path / name, tmp_path / name / "*.tar", tmp_path / name / "{000..001}.tar"):
        assert open_one(path=str(path)).shards == [str(tmp_path / name / f"00{i}.tar") for i in range(2)]
    (tmp_path / name / "sub [1]").mkdir()
    numbered(0).save(tmp_path / name / "sub [1]" / "0.png")
    assert len(open_one(path=str(tmp_path / name / "sub [1]"))) == 1


def test_shards_that_braces_name_and_are_not_there_are_named(tmp_path):
    write_shards(tmp_path, [1] * 4)
    with pytest.raises(InputError, match=r"4 of 8 are not there, 004\.tar the first"):
        open_one(path=f"{tmp_path}/{{000..007}}.tar")
    with pytest.raises(InputError, match="braces do not match"):
        open_one(path=f"{tmp_path}/{{000..007.tar")


@pytest.mark.parametrize("settings", [{}, {"sources": True}])
def test_shell_commands_run_only_where_they_are_allowed(tmp_path, settings):
    path = f"pipe:touch {tmp_path}/ran"
    for allowed in (False, True):
        config = DataConfig(path=path, allow_pipe=allowed)
        if settings:
            config = DataConfig(sources=(SourceConfig(path=path),), allow_pipe=allowed)
        if not allowed:
            with pytest.raises(InputError, match=r"runs a shell command.*data\.allow_pipe = true"):
                open_sources(config)
            assert not (tmp_path / "ran").exists()
        else:
            with suppress(Exception):  # nothing comes of it
                list(open_sources(config)[0].read(0))
            assert (tmp_path / "ran").exists()


def test_revisions_and_subsets_of_datasets(monkeypatch, tmp_path):
    asked = []

    def load_dataset(name, subset, **how):
        asked.append((name, subset, how["revision"]))
        raise ConnectionError("no network\nhere")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for path in ("hf:owner/name", "hf:owner/name:small", "hf:owner/name@refs/pr/1", "hf:owner/name@v2:small"):
        with pytest.raises(InputError, match=rf"{path}: no network$"):
            open_one(path=path)
    (tmp_path / "a@b:c").mkdir()
    with pytest.raises(InputError, match="no network"):
        open_one(path=f"hf:{tmp_path / 'a@b:c'}")
    assert asked == [
        ("owner/name", None, None),
        ("owner/name", "small", None),
        ("owner/name", None, "refs/pr/1"),
        ("owner/name", "small", "v2"),
        (str(tmp_path / "a@b:c"), None, None),
    ]


def test_what_lies_beside_shards_is_warned_of(tmp_path):
    write_shards(tmp_path, [1])
    (tmp_path / "000.parquet").write_bytes(b"img2dataset's own")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_one(path=str(tmp_path))
    numbered(0).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=r"1 shards or tables are read, 000\.tar the first.* 1 other files, a\.png"):
        open_one(path=str(tmp_path))


def test_several_folders_and_single_images_are_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        numbered(0).save(tmp_path / name / "0.png")
    with pytest.raises(InputError, match="several folders"):
        open_one(path=f"{tmp_path}/*")
    with pytest.raises(InputError, match=r"0\.png: an image; give the folder"):
        open_one(path=f"{tmp_path}/a/*.png")
