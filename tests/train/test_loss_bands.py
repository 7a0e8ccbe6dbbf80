import pytest
import torch

from vilex.train.log import Log
from vilex.train.loss_bands import loss_by_kept, loss_by_noise


def test_losses_are_split_by_quarter_of_the_noise_levels():
    losses = torch.tensor([1.0, 3.0, 10.0])
    assert loss_by_noise(losses, torch.tensor([0, 249, 999]), 1000) == {"loss_t0": 2.0, "loss_t3": 10.0}


def test_losses_are_split_by_kept_tokens():
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    assert loss_by_kept(losses, torch.tensor([1, 2, 4, 17, 75])) == {
        "loss_kept_1": 1.0,
        "loss_kept_2": 3.0,
        "loss_kept_17_up": 12.0,
    }


def test_splits_weighted_by_their_counts_are_the_whole():
    losses, keep = torch.rand(64), torch.randint(1, 76, (64,))
    split = loss_by_kept(losses, keep)
    ends = {"loss_kept_1": (1, 1), "loss_kept_2": (2, 4), "loss_kept_5": (5, 16), "loss_kept_17_up": (17, 75)}
    total = sum(value * ((keep >= ends[name][0]) & (keep <= ends[name][1])).sum() for name, value in split.items())
    assert float(total) / 64 == pytest.approx(float(losses.mean()), rel=1e-5)


def test_a_value_that_some_steps_lack_is_averaged_over_those_that_have_it(tmp_path):
    log = Log(tmp_path, 0)
    log.add({"loss": 1.0, "loss_t3": 5.0}, 4)
    log.add({"loss": 2.0}, 4)
    log.write(2)
    log.close()
    assert '"loss": 1.5' in log.path.read_text() and '"loss_t3": 5.0' in log.path.read_text()
