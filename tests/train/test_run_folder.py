"""A run's folder: whose it is, who is in it, and what a disk may refuse."""

import errno
import os
import resource
from pathlib import Path

import pytest

from tests.runs import losses
from vilex.errors import InputError
from vilex.train import checkpoint, run_folder
from vilex.train.checkpoint import list_checkpoints
from vilex.train.loop import train
from vilex.train.run_folder import WRITTEN
from vilex.train.trackers import TensorBoard


@pytest.mark.parametrize("name", WRITTEN)
def test_nothing_of_a_stranger_is_overwritten(configure, name):
    config = configure(run={"steps": 1})
    path = Path(config.run.out) / name
    path.parent.mkdir()
    path.write_text('{"model_type": "of somebody else"}')
    with pytest.raises(InputError, match=f"{name}: is there already, and no run wrote it"):
        train(config, quiet=True)
    assert os.listdir(path.parent) == [name] and "somebody" in path.read_text()


@pytest.mark.parametrize("below", [".", "runs/1"])
def test_a_run_does_not_put_its_samples_among_its_images(configure, images, below):
    config = configure(run={"steps": 1, "out": str(images / below)}, data={"path": str(images)})
    with pytest.raises(InputError, match=r"run\.out: .* lies in the data, .* would be read as data"):
        train(config, quiet=True)


def test_other_files_may_lie_in_a_run_s_folder_and_stay(configure):
    config = configure(run={"steps": 1})
    notes = Path(config.run.out) / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    train(config, quiet=True)
    train(config, quiet=True)
    assert notes.read_text() == "mine"


def test_a_run_from_before_there_were_locks_goes_on(configure):
    config = configure(run={"steps": 1})
    train(config, quiet=True)
    (Path(config.run.out) / run_folder.LOCK).unlink()
    train(config, quiet=True)


def test_a_second_run_in_one_folder_is_refused_and_the_first_unharmed(configure, monkeypatch):
    config = configure(run={"steps": 2})
    monkeypatch.setattr(run_folder, "PATIENCE", 0.1)
    with run_folder.run_folder(Path(config.run.out)):
        before = sorted(os.listdir(config.run.out))
        with pytest.raises(InputError, match="another run is training here; wait for it, or give another"):
            train(config, quiet=True)
        assert sorted(os.listdir(config.run.out)) == before
    train(config, quiet=True)
    assert sorted(losses(config)) == [1, 2]


@pytest.mark.parametrize("moment", ["folder", "checkpoint", "log"])
def test_a_disk_that_refuses_is_one_line(configure, monkeypatch, moment):
    config = configure(run={"steps": 4, "save_every": 2})
    error = OSError(errno.EROFS, os.strerror(errno.EROFS), "there")

    def refuse(*_, **__):
        raise error

    if moment == "folder":
        monkeypatch.setattr(Path, "mkdir", refuse)
    elif moment == "log":
        monkeypatch.setattr(TensorBoard, "scalars", refuse)
    else:
        monkeypatch.setattr(checkpoint, "save_file", refuse)
    with pytest.raises(InputError, match=r"there: cannot be written \(Read-only file system\); make room or give "):
        train(config, quiet=True)
    if moment == "checkpoint":
        assert os.listdir(Path(config.run.out) / "checkpoints") == []


def test_a_disk_that_is_full_keeps_the_checkpoint_before(configure):
    """A limit on the size of files stands in for the disk: writing fails in the middle of a file, for real."""
    config = configure(run={"steps": 4, "save_every": 2})
    train(configure(run={"steps": 2}, optim={"warmup_steps": 2}), quiet=True)
    longer = configure(run={"steps": 4}, optim={"warmup_steps": 2})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(InputError, match=r"cannot be written \(.*too large.*\); make room"):
            train(longer, quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    folder = Path(config.run.out) / "checkpoints"
    assert [path.name for path in list_checkpoints(folder)] == ["step-0000002"] == sorted(os.listdir(folder))
    train(longer, quiet=True)
    assert sorted(losses(longer)) == [1, 2, 3, 4]
