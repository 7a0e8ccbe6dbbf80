"""Attention computed plainly: what it replaces, and that nothing else becomes of it."""

import pytest
import torch
from diffusers.models.attention_processor import AttnAddedKVProcessor, AttnProcessor

from tests.families import FAMILIES
from vilex.prompt import parse
from vilex.t2i import load_t2i
from vilex.t2i.attention import use_plain_attention
from vilex.train.training import Training

KINDS = {"sd1": {AttnProcessor}, "if": {AttnProcessor, AttnAddedKVProcessor}, "sdxl": {AttnProcessor}}


def prediction_and_gradient(t2i):
    tokens = t2i.word("cat")[None].clone().requires_grad_()
    condition = t2i.read([parse("<v:1> in snow"), parse("")], [{"v": tokens}] * 2)
    noise = torch.randn(2, *t2i.latent_shape, generator=torch.Generator().manual_seed(1))
    predicted = t2i.predict(noise, torch.tensor([500, 20]), condition)
    predicted.square().mean().backward()
    return predicted.detach(), tokens.grad


@pytest.mark.parametrize("name", ["sd1", "sdxl", "if", "sd3", "z-image"])
def test_outputs_and_gradients_are_the_fused_ones(name, tmp_path):
    folder = FAMILIES[name].make(tmp_path / name)
    fused, plain = load_t2i(folder), load_t2i(folder)
    use_plain_attention(plain.network, *(encoder.model for encoder in plain.encoders))
    assert all(encoder.model.config._attn_implementation == "eager" for encoder in plain.encoders)
    if name in KINDS:
        assert {type(one) for one in plain.network.attn_processors.values()} <= KINDS[name]
        assert not {type(one) for one in fused.network.attn_processors.values()} & KINDS[name]
    for one, other in zip(prediction_and_gradient(plain), prediction_and_gradient(fused), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_training_on_a_cpu_takes_it(configure):
    training = Training(configure())
    assert {type(one) for one in training.t2i.network.attn_processors.values()} == {AttnProcessor}
    assert training.t2i.encoders[0].model.config._attn_implementation == "eager"
