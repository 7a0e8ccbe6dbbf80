"""A step waits for the device once, whatever it trains on; lines of the log may wait too."""

import itertools

import pytest
import torch

from benchmarks.syncs import counting_syncs
from tests.families import FAMILIES
from vilex.train.loop import train
from vilex.train.training import Training


def test_the_counter_counts():
    with counting_syncs() as waits:
        value = torch.rand(3)
        value.sum().item()
        float(value[0])
        bool(value[0] > 0)
        value.tolist()
        torch.arange(3).tolist()  # chosen on the host, not computed
    assert waits == {"aten::_local_scalar_dense": 3, "tolist": 1}


@pytest.fixture
def waits_of_steps(configure, monkeypatch):
    """How often each step waits, from one to the next: batch, step, report."""

    def measure(**sections):
        marks, original = [], Training.update
        with counting_syncs() as waits:
            monkeypatch.setattr(
                Training, "update", lambda self, *given: marks.append(waits.copy()) or original(self, *given)
            )
            run = {"steps": 5, "log_every": 100, **sections.pop("run", {})}
            train(configure(run=run, **sections), quiet=True)
        return [after - before for before, after in itertools.pairwise(marks)]

    return measure


@pytest.mark.parametrize("optimizer", ["adafactor", "adamw", "muon"])
def test_a_step_waits_once(waits_of_steps, optimizer):
    found = waits_of_steps(run={"micro_batch": 1}, optim={"name": optimizer})
    assert len(found) == 4 and all(waits.total() <= 1 for waits in found), found


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux", "if", "z-image", "pixels"])
def test_a_step_waits_once_in_every_family(waits_of_steps, family, tmp_path):
    base = FAMILIES[family].make(tmp_path / "base")
    found = waits_of_steps(model={"base": str(base)}, run={"steps": 3, "mixed_precision": "bf16"})
    assert len(found) == 2 and all(waits.total() <= 1 for waits in found), found


def test_a_line_of_the_log_waits_once_more(waits_of_steps):
    found = waits_of_steps(run={"log_every": 1})
    assert all(waits.total() <= 3 for waits in found), found
