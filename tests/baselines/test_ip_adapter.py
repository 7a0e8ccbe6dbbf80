import copy

import pytest
import torch

from tests import drawings
from tests.runs import same, weights
from vilex.encoder import ViLexEncoder
from vilex.encoder.ip_adapter import DecoupledAttention
from vilex.errors import InputError
from vilex.lexicon import VisualLexicon
from vilex.prompt import parse
from vilex.t2i import load_t2i
from vilex.t2i.ip_adapter import IPAdapterT2I, adapter_shapes, cross_attention
from vilex.train.loop import train

ADAPTER = {"model": {"method": "ip-adapter", "num_tokens": 4}, "objective": {"tail_drop": "off"}}


@pytest.fixture(params=[1, 2], ids=["sd1", "sd2"])
def decoupled(request, sd_folder):
    torch.manual_seed(0)
    base = load_t2i(sd_folder[request.param])
    return IPAdapterT2I(base, DecoupledAttention(adapter_shapes(base), 4))


def inputs(t2i, rows=2):
    torch.manual_seed(1)
    return torch.randn(rows, *t2i.latent_shape), torch.full((rows,), 500)


def test_without_an_image_it_is_the_base(decoupled):
    words, (x_t, t) = [parse("a cat"), parse("")], inputs(decoupled)
    expected = decoupled.base.predict(x_t, t, decoupled.base.read(words, [{}, {}]))
    assert torch.allclose(decoupled.predict(x_t, t, decoupled.read(words, [{}, {}])), expected, atol=1e-5)
    mixed = decoupled.read([parse("a cat <v:4>"), parse("")], [{"v": torch.randn(4, 32)}, {}])
    assert torch.allclose(decoupled.predict(x_t, t, mixed)[1], expected[1], atol=1e-6)


def test_it_is_diffusers_own_ip_adapter(decoupled):
    tokens, (x_t, t) = torch.randn(4, 32), inputs(decoupled, rows=1)
    own = decoupled.predict(x_t, t, decoupled.read([parse("a <v:4> cat")], [{"v": tokens}]))
    unet = copy.deepcopy(decoupled.base.unet)
    for layer, processor in zip(cross_attention(unet), decoupled.adapter, strict=True):
        layer.processor = copy.deepcopy(processor)
    words = decoupled.base.read([parse("a cat")], [{}]).sequence
    assert torch.equal(own, unet(x_t, t, (words, [tokens[None]])).sample)
    assert not torch.equal(own, decoupled.base.predict(x_t, t, decoupled.base.read([parse("a cat")], [{}])))


def test_gradients_reach_tokens_and_adapter_and_nothing_else(decoupled):
    tokens, (x_t, t) = torch.randn(4, 32, requires_grad=True), inputs(decoupled, rows=1)
    decoupled.predict(x_t, t, decoupled.read([parse("<v:4>")], [{"v": tokens}])).square().mean().backward()
    assert tokens.grad.abs().sum() > 0 and all(p.grad.abs().sum() > 0 for p in decoupled.adapter.parameters())
    frozen = [p for module in decoupled.modules for p in module.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in frozen)
    assert not {id(p) for p in decoupled.adapter.parameters()} & {id(p) for p in frozen}


def test_pictures_of_one_batch_have_equally_many_tokens(decoupled):
    with pytest.raises(InputError, match="2 and 4 image tokens cannot be drawn together"):
        decoupled.read([parse("<v:4>"), parse("<v:2>")], [{"v": torch.randn(4, 32)}] * 2)


def test_trains_resumes_loads_and_draws(configure, pictures):
    whole = configure("whole", **ADAPTER, run={"steps": 4})
    folder = train(whole, quiet=True)
    encoder = ViLexEncoder.from_pretrained(folder)
    start = [layer.to_k.weight for layer in cross_attention(load_t2i(whole.model.base).unet)]
    learned = [processor.to_k_ip[0].weight for processor in encoder.adapter]
    assert all(0 < (a - b).abs().max() < 0.1 for a, b in zip(learned, start, strict=True))
    again = configure("again", **ADAPTER, run={"steps": 4, "save_every": 2, "micro_batch": 0})
    train(again, quiet=True)
    assert same(weights(whole), weights(again))
    lexicon = VisualLexicon.from_pretrained(folder)
    one, other = lexicon.reconstruct(pictures[:2], steps=2, seed=[3, 3])
    alone = lexicon.reconstruct(pictures[:1], steps=2, seed=3)[0]
    assert drawings.same(one, alone) and not drawings.same(one, other, within=0)


def test_what_cannot_work_is_refused(configure):
    with pytest.raises(InputError, match="tokens have no order"):
        configure(model={"method": "ip-adapter"}).check()
    with pytest.raises(InputError, match="de-diffusion needs"):
        configure(model={"method": "de-diffusion"}, run={"parallel": "fsdp"}, optim={"name": "adamw"}).check()
