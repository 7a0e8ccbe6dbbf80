"""Processes, precision and sharding, as far as one CPU can tell."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import Dinov2Config, SiglipVisionConfig

from benchmarks.shapes import TOWERS as PUBLISHED
from tests import tiny
from tests.runs import losses, same, weights
from tests.train.test_resume import loader_of
from vilex.encoder import ViLexConfig, ViLexEncoder
from vilex.encoder.towers import build_tower
from vilex.errors import InputError
from vilex.train import engine as engine_module
from vilex.train.config import OptimConfig, RunConfig
from vilex.train.engine import Engine, repeated_blocks
from vilex.train.loop import train
from vilex.train.optim import make_optimizer
from vilex.train.training import Training


@pytest.mark.parametrize("kind", tiny.TOWERS)
def test_blocks_of_every_tower_and_of_the_pooler_are_units_of_sharding(kind):
    tower = tiny.TOWERS[kind]()
    encoder = ViLexEncoder(ViLexConfig(tower=tower.config.to_dict(), width=32, num_tokens=8, blocks=3, heads=4))
    units = repeated_blocks(encoder)
    assert len(units) == 2 + 3 and len({id(one) for one in units}) == 5


def test_at_real_sizes_the_units_hold_all_but_a_little():
    width, layers, hidden, heads, patch = PUBLISHED["google/siglip-so400m-patch14-224"]
    shapes = (
        SiglipVisionConfig(
            hidden_size=width, num_hidden_layers=layers, intermediate_size=hidden, num_attention_heads=heads,
            patch_size=patch,
        ),
        Dinov2Config(),
    )  # fmt: skip
    for shape in shapes:
        with torch.device("meta"):
            tower = build_tower(shape.to_dict())
        inside = sum(p.numel() for block in repeated_blocks(tower) for p in block.parameters())
        assert inside > 0.95 * sum(p.numel() for p in tower.parameters())


def test_blocks_in_a_sequence_are_units_whatever_their_class():
    class Anything(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])

    rows = nn.Sequential(Anything(), Anything())
    assert repeated_blocks(nn.ModuleDict({"trunk": rows})) == list(rows)
    assert repeated_blocks(nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2))) == []
    assert repeated_blocks(nn.ModuleList([nn.GELU(), nn.GELU()])) == []


def test_replicas_send_no_buffers():
    replicas = Engine(RunConfig(device="cpu")).accelerator.ddp_handler
    assert replicas.broadcast_buffers is False and replicas.gradient_as_bucket_view


def test_devices_that_are_not_here_are_refused(monkeypatch):
    with pytest.raises(InputError, match=r"run\.device: no device 'cuda:7' here"):
        Engine(RunConfig(device="cuda:7"))
    monkeypatch.setattr(engine_module, "check_device", lambda name, setting: torch.device(name))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"cuda:1 is one device for several processes; give cuda or auto"):
        Engine(RunConfig(device="cuda:1"))
    with pytest.raises(InputError, match=r"run\.mixed_precision: fp16 .*; use bf16 or no"):
        monkeypatch.delenv("WORLD_SIZE")
        Engine(RunConfig(device="cpu", mixed_precision="fp16"))


@pytest.mark.parametrize("limit", [0.0, 0.5])
def test_clipping_is_to_a_norm_or_off(limit):
    engine, parameter = Engine(RunConfig(device="cpu")), nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert engine.clip([parameter], limit) == 5
    assert torch.allclose(parameter.grad, torch.tensor([3.0, 4.0]) * (limit / 5 if limit else 1), rtol=1e-4)


@pytest.mark.parametrize("name", ["adafactor", "adamw", "muon"])
def test_weights_decay_in_both_groups_by_rate_and_decay(name, model_folder):
    """Without a gradient both optimisers leave w (1 - lr decay)."""
    config = OptimConfig(name=name, tower_lr=0.1, pooler_lr=0.2, weight_decay=0.5)
    encoder = ViLexEncoder.from_pretrained(model_folder)
    optimizer = make_optimizer(encoder, config)
    before = {key: value.clone() for key, value in encoder.named_parameters()}
    for parameter in encoder.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, value in encoder.named_parameters():
        rate = 0.1 if key.startswith("tower") else 0.2
        assert torch.allclose(value, before[key] * (1 - rate * 0.5), atol=1e-6), key


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_learn_what_the_whole_batch_learns(configure, micro_batch):
    """Of 3 and 1 images, or one by one: gradients are those of the mean over all four."""
    found = {}
    for size in (0, micro_batch):
        config = configure(f"micro{size}", run={"steps": 4, "micro_batch": size}, optim={"clip_norm": 0.0})
        training = Training(config)
        gradients = []
        training._step_optimizer = lambda t=training, g=gradients: g.extend(p.grad.clone() for p in t.parameters)
        step = training.update(next(iter(loader_of(training))))
        found[size] = [step.values["loss"].view(1), step.values["grad_norm"].view(1), *gradients]
    for whole, parts in zip(found[0], found[micro_batch], strict=True):
        assert torch.allclose(whole, parts, rtol=1e-3, atol=1e-6)


def test_compile_reaches_the_denoiser_and_the_encoder(configure, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: compiled.append(self))
    training = Training(configure(run={"compile": True}))
    assert compiled == [training.t2i.network, training.encoder]
    compiled.clear()
    Training(configure())
    assert compiled == []


@pytest.mark.parametrize(("precision", "expected"), [("bf16", torch.bfloat16), ("no", torch.float32)])
def test_mixed_precision_is_what_encoder_and_frozen_parts_compute_in(configure, precision, expected):
    training = Training(configure(run={"mixed_precision": precision}))
    assert training.t2i.dtype is training.bare.dtype is torch.float32
    seen = {}
    linear = {
        "denoiser": next(m for m in training.t2i.unet.modules() if isinstance(m, nn.Linear)),
        "text encoder": next(m for m in training.t2i.text_encoder.modules() if isinstance(m, nn.Linear)),
        "pooler": training.bare.pooler.out,
    }
    for name, module in linear.items():
        module.register_forward_hook(lambda _m, _i, output, name=name: seen.update({name: output.dtype}))
    step = training.update(next(iter(loader_of(training))))
    assert seen == dict.fromkeys(linear, expected) and step.values["loss"].dtype is torch.float32


@pytest.fixture
def scaled(monkeypatch):
    """fp16's loss scaler, which works on a CPU too, where accelerate has none."""
    whole = engine_module.Accelerator

    def with_scaler(**settings):
        made = whole(**settings)
        made.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
        return made

    monkeypatch.setattr(engine_module, "Accelerator", with_scaler)
    return SimpleNamespace(overflow=lambda patch, step: _overflow_in(patch, step))


def _overflow_in(patch, step):
    original = Training._forward_backward

    def overflown(self, part, share):
        found = original(self, part, share)
        if self.step == step:
            self.parameters[-1].grad.fill_(float("inf"))
        return found

    patch.setattr(Training, "_forward_backward", overflown)


def test_an_overflown_step_is_left_out_and_the_rate_waits(configure, scaled, monkeypatch):
    training = Training(configure())
    scaled.overflow(monkeypatch, 2)
    batches = iter(loader_of(training))
    places, kept = [], []
    for _ in range(4):
        before = [p.detach().clone() for p in training.parameters]
        training.update(next(batches))
        places.append(training.schedule.last_epoch)
        kept.append(all(torch.equal(a, b) for a, b in zip(before, training.parameters, strict=True)))
    assert places == [1, 2, 2, 3] and training.step == 4
    assert kept == [True, False, True, False]  # the rate of a warm-up's first step is 0
    assert training.engine._scaler.get_scale() == 4.0  # half of 8


def test_the_scaler_goes_on_where_it_was(configure, scaled, monkeypatch):
    config = configure(run={"steps": 6, "save_every": 4})
    with monkeypatch.context() as patch:
        scaled.overflow(patch, 2)
        training = Training(config)
        batches = iter(loader_of(training))
        for _ in range(4):
            training.update(next(batches))
        training.save()
    expected = training.engine._scaler.state_dict()
    assert expected["scale"] == 4.0 and expected["_growth_tracker"] == 1
    assert Training(config).engine._scaler.state_dict() == expected


def test_scaled_losses_learn_what_plain_ones_learn(configure, scaled, monkeypatch):
    with_scaler = configure("scaled", run={"steps": 3})
    train(with_scaler, quiet=True)
    monkeypatch.undo()
    plain = configure("plain", run={"steps": 3})
    train(plain, quiet=True)
    assert losses(with_scaler) == pytest.approx(losses(plain), rel=1e-4)
    assert not same(weights(with_scaler), {}) and weights(with_scaler).keys() == weights(plain).keys()
