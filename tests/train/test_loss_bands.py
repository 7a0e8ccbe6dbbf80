import json

import pytest
import torch

from vilex.train.log import Log
from vilex.train.loss_bands import loss_by_kept, loss_by_noise


def test_losses_are_split_by_quarter_of_the_noise_levels():
    losses = torch.tensor([1.0, 3.0, 10.0])
    assert means(loss_by_noise(losses, torch.tensor([0, 249, 999]), 1000)) == {"loss_t0": 2.0, "loss_t3": 10.0}
    flow = loss_by_noise(losses, torch.tensor([0.5, 500.0, 1000.0]), 1000)
    assert means(flow) == {"loss_t0": 1.0, "loss_t2": 3.0, "loss_t3": 10.0}


def test_losses_are_split_by_kept_tokens():
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    assert means(loss_by_kept(losses, torch.tensor([1, 2, 4, 17, 75]))) == {
        "loss_kept_1": 1.0,
        "loss_kept_2": 3.0,
        "loss_kept_17_up": 12.0,
    }


def test_sums_of_all_bands_are_the_whole():
    losses, keep = torch.rand(64), torch.randint(1, 76, (64,))
    total, count = sum(loss_by_kept(losses, keep).values()).tolist()
    assert count == 64 and total == pytest.approx(float(losses.sum()), rel=1e-5)


def test_a_value_that_some_steps_lack_is_averaged_over_those_that_have_it(tmp_path):
    log = Log(tmp_path, 0)
    log.add({"loss": 1.0, "loss_t3": torch.tensor([15.0, 3.0]), "loss_t0": torch.tensor([0.0, 0.0])}, 4)
    log.add({"loss": torch.tensor(2.0), "loss_t3": torch.tensor([5.0, 1.0]), "grad_norm": float("inf")}, 4)
    row = log.write(2)
    log.close()
    assert row["loss"] == 1.5 and row["loss_t3"] == 5.0 and not {"loss_t0", "grad_norm"} & row.keys()
    assert json.loads(log.path.read_text())["loss_t3"] == 5.0


def test_lines_of_several_processes_are_averaged_together(tmp_path):
    log = Log(tmp_path, 0)
    log.add({"loss": 1.0}, 4)
    assert log.write(1, [log.sums(), {"loss": (3.0, 1.0), "loss_t1": (6.0, 2.0)}])["loss"] == 2.0
    log.close()


def means(sums):
    return {name: (pair[0] / pair[1]).item() for name, pair in sums.items() if pair[1]}
