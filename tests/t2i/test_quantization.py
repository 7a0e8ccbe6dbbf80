"""Frozen parts in 8 bits draw and train; what cannot be is one line."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.families import FAMILIES
from vilex.errors import InputError
from vilex.plan.plan import make_plan, remedies
from vilex.prompt import parse
from vilex.t2i import load_t2i, shape_of
from vilex.t2i.parts import frozen_bytes
from vilex.t2i.quantization import check_quantization
from vilex.train.loop import train


def held_bytes(t2i):
    """What the parts really hold: of a quantised matrix its whole numbers, scales and zeros."""
    return sum(
        tensor.qdata.nbytes + tensor.scale.nbytes + tensor.zero_point.nbytes
        if hasattr(tensor, "qdata")
        else tensor.nbytes
        for module in t2i.modules
        for tensor in (*module.parameters(), *module.buffers())
    )


@pytest.mark.parametrize("family", ["sd1", "sd3", "flux2-klein", "z-image"])
def test_eight_bits_draw_nearly_the_same_in_a_third_of_the_memory(tmp_path, family):
    folder = FAMILIES[family].make(tmp_path / "base")
    whole, quantized = load_t2i(folder), load_t2i(folder, quantize="int8")
    assert held_bytes(quantized) == frozen_bytes(shape_of(folder), "int8") < frozen_bytes(shape_of(folder))
    assert frozen_bytes(shape_of(folder)) == held_bytes(whole)
    assert all(torch.equal(a, b) for a, b in zip(whole.lookups, quantized.lookups, strict=True))  # words stay words
    x_t, t = torch.randn(1, *whole.latent_shape, generator=torch.Generator().manual_seed(0)), torch.tensor([5.0])
    token = torch.randn(1, whole.width, requires_grad=True)
    outputs, gradients = [], []
    for t2i in (whole, quantized):
        output = t2i.predict(x_t, t, t2i.read([parse("a <cat:1> hat")], [{"cat": token}]))
        outputs.append(output.detach())
        gradients += torch.autograd.grad(output.square().mean(), token)
    for exact, near in (outputs, gradients):
        assert 0 < (near - exact).norm() < 0.1 * exact.norm()


def test_matrices_alone_are_quantised_and_the_auto_encoder_is_not(sd_folder):
    t2i = load_t2i(sd_folder[1], quantize="int8")
    for name in t2i.names:
        matrices = [one.weight for one in getattr(t2i, name).modules() if isinstance(one, nn.Linear)]
        assert {hasattr(weight, "qdata") for weight in matrices} == {name != "vae"}


def test_training_through_eight_bits_learns_resumes_and_is_planned(configure):
    config = configure(model={"quantize": "int8"}, run={"steps": 4})
    assert (train(config, quiet=True) / "model.safetensors").is_file()
    plain, longer = configure(run={"steps": 4}), replace(config, run=replace(config.run, steps=6))
    assert make_plan(config).memory["frozen weights"] < make_plan(plain).memory["frozen weights"]
    assert "model.quantize=int8" in dict(remedies(plain, 1))
    with pytest.raises(InputError, match=r"model\.quantize = 'int8', not ''"):
        train(replace(longer, model=plain.model), quiet=True)
    lines = [json.loads(line) for line in (train(longer, quiet=True).parent / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 6


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("int3", "quantize 'int3': expected int8 or nf4"),
        pytest.param(
            "nf4",
            "quantize 'nf4': needs a CUDA card; use int8",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA card"),
        ),
    ],
)
def test_what_cannot_be_is_one_line(way, message):
    with pytest.raises(InputError, match=message):
        check_quantization(way)
