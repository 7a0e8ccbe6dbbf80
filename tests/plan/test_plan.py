import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import shapes
from tests.families import FAMILIES
from vilex.cli.app import app
from vilex.data import Batch
from vilex.data.config import DataConfig
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.plan.memory import LiveBytes, bytes_of
from vilex.plan.plan import describe, make_plan, remedies
from vilex.t2i import load_t2i
from vilex.t2i.attention import suit_attention
from vilex.train.config import ModelConfig, OptimConfig, RunConfig, TrainConfig
from vilex.train.loop import train
from vilex.train.models import checkpoint_activations
from vilex.train.objective import DenoisingObjective
from vilex.train.previews import Previews
from vilex.train.toml import load_toml
from vilex.train.training import Training

CONFIGS = sorted(Path(__file__).parents[2].glob("configs/*.toml"))


@pytest.fixture
def config(sd_folder, tower_folder):
    return TrainConfig(
        model=ModelConfig(base=str(sd_folder[2]), tower=str(tower_folder), num_tokens=8, blocks=2, heads=4),
        data=DataConfig(path="images"),
        optim=OptimConfig(warmup_steps=2),
        run=RunConfig(steps=10, batch_size=8, micro_batch=2, device="cpu"),
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """By hub id: folders with the published configurations."""
    bases = {name: make(tmp_path_factory.mktemp("shape") / "base") for name, make in shapes.PUBLISHED.items()}
    towers = {name: shapes.tower(tmp_path_factory.mktemp(f"tower{i}"), name) for i, name in enumerate(shapes.TOWERS)}
    return bases | towers


def localised(path, published):
    config = load_toml(TrainConfig, path, ["data.path=images"])
    own = {name: str(published[getattr(config.model, name)]) for name in ("base", "tower")}
    return replace(config, model=replace(config.model, **own))


def test_live_bytes_knows_what_is_kept_and_what_was_freed():
    with LiveBytes() as count:
        kept = torch.empty(100, device="meta") + 1
        torch.empty(1000, device="meta").add(1)
        kept.view(10, 10)
    assert count.live == 400 and count.peak == 400 + 8000


def test_parameters_are_those_of_the_models(config, tower_folder):
    plan = make_plan(config)
    t2i = load_t2i(config.model.base)
    encoder = ViLexEncoder.from_tower(config.model.tower, width=32, num_tokens=8, blocks=2, heads=4)
    assert plan.trained == {
        name: sum(p.numel() for p in getattr(encoder, name).parameters()) for name in ("tower", "pooler")
    }
    assert plan.frozen["denoiser"] == sum(p.numel() for p in t2i.unet.parameters())
    assert plan.memory["frozen weights"] == sum(
        t.numel() * t.element_size() for m in t2i.modules for t in (*m.parameters(), *m.buffers())
    )
    assert plan.memory["gradients"] == plan.memory["average"] == 4 * sum(plan.trained.values())


def test_adamw_holds_two_numbers_a_weight_muon_little_more_than_one_and_adafactor_far_fewer(config):
    held = {
        name: make_plan(replace(config, optim=OptimConfig(name=name, warmup_steps=2))).memory["optimiser"]
        for name in ("adamw", "muon", "adafactor")
    }
    weights = 4 * sum(make_plan(config).trained.values())
    assert held["adamw"] == pytest.approx(2 * weights, rel=0.01) and held["adafactor"] < 0.3 * weights
    assert weights < held["muon"] < 1.4 * weights


def test_more_tokens_than_a_prompt_holds_are_refused(config, tmp_path):
    base = FAMILIES["chroma"].make(tmp_path / "base")  # of 48 positions
    message = "model.num_tokens: 48, but a prompt of ChromaPipeline has room for 47; ask for no more"
    with pytest.raises(InputError, match=message):
        make_plan(replace(config, model=replace(config.model, base=str(base), num_tokens=48)))


def test_work_is_shared_out(config):
    alone, four = make_plan(config), make_plan(config, processes=4)
    assert (alone.micro_batch, alone.accumulate) == (2, 4) and (four.micro_batch, four.accumulate) == (2, 1)
    assert alone.flops == four.flops and alone.memory == four.memory
    sharding = replace(
        config, run=replace(config.run, parallel="fsdp"), optim=OptimConfig(name="adamw", warmup_steps=2)
    )
    assert make_plan(sharding, processes=4).memory["gradients"] == four.memory["gradients"] // 4
    assert make_plan(config).tokens == pytest.approx(4.5 * 80, rel=0.01)  # uniform over 1..8
    with pytest.raises(InputError, match="8 is no multiple of the 3 processes"):
        make_plan(config, processes=3)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_counted_activations_are_those_of_a_real_step(config, checkpointing, device):
    config = replace(
        config, run=replace(config.run, gradient_checkpointing=checkpointing, micro_batch=8, device=device)
    )
    t2i, model = load_t2i(config.model.base), config.model
    suit_attention(t2i, device)
    encoder = ViLexEncoder.from_tower(model.tower, width=32, num_tokens=8, blocks=2, heads=4).train()
    if checkpointing:
        checkpoint_activations(t2i, encoder)
    objective = DenoisingObjective(t2i, config.objective, seed=0)
    batch = Batch(torch.zeros(8, 3, 16, 16), torch.zeros(8, 3, 32, 32), ["a " * 32] * 8, torch.arange(8), torch.ones(8))
    with LiveBytes() as step:
        objective(encoder, 8, batch)[0].backward()
    counted = make_plan(config).memory
    assert counted["activations"] == pytest.approx(step.peak - counted["gradients"], rel=0.1)


def test_plain_attention_of_cpus_holds_its_matrix(config):
    plans = {name: make_plan(replace(config, run=replace(config.run, device=name))) for name in ("cpu", "cuda", "auto")}
    assert plans["cpu"].memory["activations"] > plans["cuda"].memory["activations"]
    assert plans["auto"].memory == plans["cuda"].memory


def test_checkpointing_trades_memory_for_arithmetic(config):
    big = replace(config, run=replace(config.run, micro_batch=8))
    plain, checked = (
        make_plan(replace(big, run=replace(big.run, gradient_checkpointing=choice))) for choice in (False, True)
    )
    assert checked.memory["activations"] < plain.memory["activations"] and checked.flops > plain.flops


def test_remedies_are_what_they_say(config):
    config = replace(config, run=replace(config.run, sample_every=0))  # else previews are this tiny model's peak
    found = dict(remedies(config, 1))
    assert "run.micro_batch=1" in found
    smaller = make_plan(replace(config, run=replace(config.run, micro_batch=1)))
    assert found["run.micro_batch=1"] == make_plan(config).peak - smaller.peak > 0


def test_previews_count_with_what_they_need_more_than_a_step(config, tmp_path, pictures):
    (images := tmp_path / "bare").mkdir()
    for i, picture in enumerate(pictures):
        picture.save(images / f"{i}.png")
    run = replace(config.run, out=str(tmp_path / "run"), sample_images=8, micro_batch=1)
    config = replace(config, data=DataConfig(path=str(images)), run=run, optim=OptimConfig(warmup_steps=1))
    training = Training(config)
    previews = Previews(config, training.t2i, training.first_tower)
    with LiveBytes() as drawn:
        previews.draw(training.averaged_encoder())
    plan = make_plan(config)
    tower = bytes_of(training.bare.tower)  # on a CPU it is nowhere else while previews are drawn
    counted = plan.memory["gradients"] + plan.memory["activations"] + plan.memory["previews"]
    assert plan.memory["previews"] > 0 and counted - tower == pytest.approx(drawn.peak, rel=0.15)
    assert make_plan(replace(config, run=replace(run, sample_every=0))).memory["previews"] == 0


def test_measured_steps_take_time_and_change_nothing(config):
    plan = make_plan(config, measure=1)
    assert 0 < plan.seconds < 60 and "for 1000 steps" in describe(plan)["time"]
    assert "time" not in describe(make_plan(config))


def test_memory_that_runs_out_ends_with_advice(config, tmp_path, images, monkeypatch):
    short = replace(config, data=DataConfig(path=str(images)), run=replace(config.run, out=str(tmp_path / "run")))

    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr("vilex.train.objective.DenoisingObjective.__call__", exhausted)
    with pytest.raises(torch.OutOfMemoryError):
        exhausted()
    monkeypatch.setattr("vilex.train.loop.advise", lambda config, processes: "out of memory; do this")
    with pytest.raises(InputError, match="step 1: out of memory; do this"):
        train(short, quiet=True)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_ready_configs_fit_their_cards_at_the_published_sizes(path, published, monkeypatch):
    monkeypatch.setattr("vilex.plan.memory.flops_of", lambda step: 0)  # half of the time, and not what is asked here
    config = localised(path, published)
    processes, gigabytes = {"24gb": (1, 24), "8gpu": (8, 80), "paper": (64, 80)}[path.stem.rsplit("-", 1)[1]]
    plan = make_plan(config, processes)
    assert plan.trained["tower"] / 1e6 == pytest.approx(86 if processes == 1 else 412, abs=2)
    assert plan.peak < 0.9 * gigabytes * 2**30


def test_a_plan_at_the_published_sizes(published):
    plan = make_plan(localised(next(path for path in CONFIGS if path.stem == "sd15-24gb"), published))
    assert plan.frozen["denoiser"] == 859_520_964 and plan.frozen["text encoder"] == 123_060_480
    assert plan.frozen["auto-encoder"] == 83_653_863


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_ready_configs_train_tiny_models(path, tmp_path, tower_folder, images):
    family = {"sd15": "sd1", "sd21": "sd2"}.get(name := path.stem.rsplit("-", 1)[0], name)
    base = FAMILIES[family].make(tmp_path / "base")
    config = load_toml(
        TrainConfig,
        path,
        [
            f"model.base={base}", f"model.tower={tower_folder}", "model.heads=4", f"data.path={images}",
            f"run.out={tmp_path / 'run'}", "run.steps=1", "run.batch_size=8", "run.micro_batch=4",
            "run.device=cpu", "run.sample_every=0", "optim.warmup_steps=0", "model.pooler_width=32",
        ],
    )  # fmt: skip
    assert config.data.workers > 0 and config.run.mixed_precision == "bf16"
    assert (train(config, quiet=True) / "model.safetensors").is_file()


def test_command_line(config, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(f'[model]\nbase = "{config.model.base}"\ntower = "{config.model.tower}"\nheads = 4\n')
    words = ["train", str(path), "data.path=x", "run.batch_size=4", "run.device=cpu", "--plan", "--measure", "0"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0 and "a device: frozen weights" in said.output
    counted = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    assert counted["batch_size"] == 4 and counted["peak"] == sum(counted["memory"].values())
