"""Shapes worked out once are the shapes that torch works out."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.families import FAMILIES
from vilex.data.config import DataConfig
from vilex.plan.memory import LiveBytes
from vilex.plan.plan import make_plan
from vilex.plan.remembered import RememberedShapes
from vilex.train.config import ModelConfig, OptimConfig, RunConfig, TrainConfig

META = torch.device("meta")


def told(tensor):
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.untyped_storage().nbytes()


def plenty(x):
    """What depends on more than shapes of tensors: types, numbers' kinds, keywords, several results, lists."""
    yield x + 1
    yield x.to(torch.bfloat16) + 1.0
    yield x.int() + 1
    yield x.int() + 1.5  # the same but for the number
    yield x > 0
    yield x.sum(0)
    yield x.sum(0, keepdim=True)
    yield from x.max(1)
    yield from x.transpose(0, 1).chunk(2)
    yield torch.cat([x, x], dim=1)
    yield torch.cat([x, x, x], dim=1)
    yield x.T @ x
    yield torch.full_like(x, 2, memory_format=torch.contiguous_format)
    yield torch.zeros_like(x, dtype=torch.int64)
    yield nn.functional.layer_norm(x, x.shape[1:])


@pytest.mark.parametrize("shape", [(4, 6), (6, 6)])
def test_results_are_those_that_torch_works_out(shape):
    x = torch.empty(shape, device=META)
    expected = [told(one) for one in plenty(x)]
    with RememberedShapes() as mode:
        for _ in range(3):
            assert [told(one) for one in plenty(x)] == expected
    assert len(mode.known) > 10


def test_views_share_and_what_is_changed_in_place_is_the_same_tensor():
    x = torch.empty(4, 6, device=META)
    with RememberedShapes(), LiveBytes() as count:
        for _ in range(3):
            assert x.view(24).untyped_storage()._cdata == x.untyped_storage()._cdata
            assert torch.ops.aten._unsafe_view(x, [24]).untyped_storage()._cdata == x.untyped_storage()._cdata
            assert x.mul_(2) is x and x.t().add_(1).untyped_storage()._cdata == x.untyped_storage()._cdata
    assert count.peak == 0
    with RememberedShapes():
        for rows in (2, 3):
            assert x.resize_(rows, 6).shape == (rows, 6)


def test_tensors_with_data_are_computed():
    with RememberedShapes() as mode:
        values = [(torch.ones(2) + number).tolist() for number in range(3)]
        assert (torch.ones(2).to(META) + 1).is_meta
    assert values == [[1, 1], [2, 2], [3, 3]] and not any(key[0] is torch.ops.aten.ones.default for key in mode.known)


@pytest.mark.parametrize(("family", "name"), [("sd1", "muon"), ("sdxl", "adafactor"), ("z-image", "adamw")])
def test_a_plan_says_the_same_without_them(family, name, tower_folder, tmp_path, monkeypatch):
    config = TrainConfig(
        model=ModelConfig(
            base=str(FAMILIES[family].make(tmp_path / "base")), tower=str(tower_folder), num_tokens=8, blocks=2, heads=4
        ),
        data=DataConfig(path="images"),
        optim=OptimConfig(name=name, warmup_steps=2),
        run=RunConfig(steps=10, batch_size=4, micro_batch=2, device="cpu", gradient_checkpointing=name == "muon"),
    )
    remembered = make_plan(config)
    monkeypatch.setattr("vilex.plan.plan.RememberedShapes", nullcontext)
    plain = make_plan(config)
    assert replace(remembered, seconds=None) == replace(plain, seconds=None)
