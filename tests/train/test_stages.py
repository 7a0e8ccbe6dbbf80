"""A run in two stages: the pooler learns alone, then both do."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.runs import losses, same, weights
from tests.train.test_loop import Interrupted, interrupt_at, loader_of
from tests.train.test_processes import alone, run_toml, start  # noqa: F401 (a fixture)
from tests.train.test_processes import losses as losses_in
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.plan.plan import describe, make_plan
from vilex.train.checkpoint import list_checkpoints
from vilex.train.loop import train
from vilex.train.training import Training

ALONE, STEPS = 3, 8


@pytest.fixture
def staged(configure):
    def make(out="run", **sections):
        optim = {"tower_frozen_steps": ALONE, "warmup_steps": 2, "ema_decay": 0.9, **sections.pop("optim", {})}
        run = {"steps": STEPS, "save_every": 1, "keep": 9, **sections.pop("run", {})}
        return configure(out, optim=optim, run=run, **sections)

    return make


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("name", ["adafactor", "adamw", "muon"])
def test_the_tower_waits_and_then_learns(staged, name):
    training = Training(staged(optim={"name": name, "weight_decay": 0.5}))
    batches, before = iter(loader_of(training)), copied(training.bare)
    own = set(training.bare.tower.parameters())
    for step in range(1, STEPS + 1):
        training.update(next(batches))
        now = training.bare.state_dict()
        tower, pooler = ([not torch.equal(now[key], before[key]) for key in before if key.startswith(part)]
                         for part in ("tower", "pooler"))  # fmt: skip
        if step <= ALONE:
            assert not any(tower) and (step == 1 or any(pooler)), step  # of the first step the rate is 0
            assert not own & set(training.engine.optimizer.state)
            assert training.bare.tower_waits == (step <= ALONE)
        elif step > ALONE + 1:  # as the pooler's did, the tower's rate begins at 0
            assert any(tower) and own & set(training.engine.optimizer.state)
            assert not training.bare.tower_waits


def test_no_gradient_goes_through_a_tower_that_waits(staged, monkeypatch):
    training, seen = Training(staged()), []
    backward = training.engine.backward

    def watched(loss):
        backward(loss)
        seen.append([p.grad is not None for p in training.bare.tower.parameters() if p.requires_grad])

    monkeypatch.setattr(training.engine, "backward", watched)
    batches = iter(loader_of(training))
    for _ in range(ALONE + 1):
        training.update(next(batches))
    assert not any(any(step) for step in seen[:ALONE]) and all(seen[ALONE])


def test_the_pooler_learns_as_under_a_frozen_tower(staged):
    """Until the tower learns, too, all is as where its rate is 0."""
    two, none = staged("two"), staged("none", optim={"tower_lr": 0.0, "tower_frozen_steps": 0})
    train(two, quiet=True)
    train(none, quiet=True)
    assert [losses(two)[i] for i in range(1, ALONE + 2)] == [losses(none)[i] for i in range(1, ALONE + 2)]
    assert losses(two)[STEPS] != losses(none)[STEPS]


def test_each_part_s_rate_warms_up_in_its_own_stage_and_both_end_at_zero(staged):
    training = Training(staged(optim={"tower_lr": 1.0, "pooler_lr": 0.5}, run={"steps": 20}))
    tower, pooler = training.schedule.lr_lambdas
    assert [tower(step) for step in range(ALONE + 1)] == [0] * (ALONE + 1)
    assert tower(ALONE + 1) == 0.5 and tower(ALONE + 2) == 1 and pooler(1) == 0.5 and pooler(2) == 1
    assert tower(20) == pytest.approx(0) == pooler(20)
    one = Training(staged("one", optim={"tower_frozen_steps": 0, "tower_lr": 1.0, "pooler_lr": 0.5}, run={"steps": 17}))
    assert [tower(ALONE + k) for k in range(1, 18)] == [one.schedule.lr_lambdas[0](k) for k in range(1, 18)]


def test_the_tower_s_average_begins_with_its_stage(staged):
    """s' = d s + (1 - d) w with d = min(decay, 1 - k^(-3/4)), k counted from the step on at which a part learns."""
    training = Training(staged(optim={"ema_decay": 0.9}))
    batches, own = iter(loader_of(training)), len([p for p in training.bare.tower.parameters() if p.requires_grad])
    expected = [p.detach().clone() for p in training.parameters]
    for step in range(1, STEPS + 1):
        training.update(next(batches))
        for i, (average, parameter) in enumerate(zip(expected, training.parameters, strict=True)):
            k = step - ALONE * (i < own)
            share = min(0.9, 1 - max(1, k) ** -0.75)
            average.mul_(share).add_(parameter.detach(), alpha=1 - share)
        for average, found in zip(expected, training.ema.shadow_params, strict=True):
            assert torch.allclose(average, found, atol=1e-6), step


@pytest.mark.parametrize("name", ["adafactor", "adamw", "muon"])
@pytest.mark.parametrize("step", [ALONE - 1, ALONE, ALONE + 1])
def test_resume_equals_the_uninterrupted_run_on_either_side_of_the_switch(staged, monkeypatch, name, step):
    straight, broken = (staged(out, optim={"name": name}) for out in ("straight", "broken"))
    train(straight, quiet=True)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(Interrupted):
            train(broken, quiet=True)
    saved = list_checkpoints(Path(broken.run.out) / "checkpoints")[-1]
    state = json.loads((saved / "state.json").read_text())
    assert state["step"] == step
    resumed = Training(broken)
    assert resumed.bare.tower_waits == (step < ALONE)
    assert bool(set(resumed.bare.tower.parameters()) & set(resumed.engine.optimizer.state)) == (step > ALONE)
    train(broken, quiet=True)
    assert losses(broken) == losses(straight) and same(weights(broken), weights(straight))


def test_a_finished_encoder_knows_nothing_of_stages(staged):
    folder = train(staged(), quiet=True)
    assert not ViLexEncoder.from_pretrained(folder).tower_waits


@pytest.mark.parametrize(("parallel", "optimizer"), [("ddp", "adafactor"), ("ddp", "muon"), ("fsdp", "adamw")])
def test_two_processes_learn_what_one_learns(run_toml, tmp_path, parallel, optimizer):  # noqa: F811
    """A tower so fast that replicas which do not share its gradients would soon be two towers."""
    how = [f"optim.name={optimizer}", "optim.tower_frozen_steps=4", "optim.tower_lr=3e-3", "optim.warmup_steps=1",
           "optim.ema_decay=0", "run.micro_batch=1", "run.steps=9", "run.keep=9"]  # fmt: skip
    alone(run_toml, *how, f"run.out={tmp_path / 'one'}")
    start(run_toml, *how, f"run.out={tmp_path / 'two'}", f"run.parallel={parallel}", processes=2).finish()
    one, two = losses_in(tmp_path / "one"), losses_in(tmp_path / "two")
    assert len(one) == 9 and two == pytest.approx(one, rel=1e-3)
    first, second = (load_file(tmp_path / name / "encoder" / "model.safetensors") for name in ("one", "two"))
    begun = load_file(next((tmp_path / "one" / "checkpoints").glob("step-0000003")) / "encoder.safetensors")
    for part in ("tower.", "pooler."):
        moved, apart = (sum((a[key] - b[key]).square().sum() for key in first if key.startswith(part)).sqrt()
                        for a, b in ((first, begun), (first, second)))  # fmt: skip
        assert moved > 0.1 and apart < 0.1 * moved, (part, moved, apart)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"optim": {"tower_frozen_steps": 8}}, "tower_frozen_steps: 8 leaves the tower none of run.steps = 8"),
        ({"optim": {"tower_lr": 0.0}}, "tower_frozen_steps: 3, but optim.tower_lr is 0"),
        ({"optim": {"pooler_lr": 0.0}}, "tower_frozen_steps: 3, but optim.pooler_lr is 0"),
        ({"optim": {"warmup_steps": 6}}, "warmup_steps: 6 is more than the 5 steps after optim.tower_frozen_steps = 3"),
    ],
)
def test_stages_that_cannot_be(staged, sections, message):
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        staged(**sections).check()


def test_a_plan_counts_both_stages(staged):
    both, plain = make_plan(staged(), measure=1), make_plan(staged(optim={"tower_frozen_steps": 0}))
    assert both.first.steps == ALONE and both.flops == plain.flops and both.memory == plain.memory
    assert 0.5 * plain.flops < both.first.flops < plain.flops
    frozen = make_plan(staged(optim={"tower_frozen_steps": 0, "tower_lr": 0.0}))
    assert both.first.flops == frozen.flops
    assert both.all_flops == ALONE * both.first.flops + (STEPS - ALONE) * both.flops
    assert plain.first is None and plain.all_flops == STEPS * plain.flops and plain.all_seconds is None
    assert both.all_seconds == pytest.approx(ALONE * both.first.seconds + (STEPS - ALONE) * both.seconds)
    lines = describe(both)
    assert f"of the first {ALONE}, in which the tower waits" in lines["arithmetic"]
    assert "with the tower waiting" in lines["time"] and "waits" not in describe(plain)["arithmetic"]
    assert json.dumps(asdict(both))


def test_a_run_says_until_when_the_tower_waits(staged, capsys):
    train(staged())
    assert f"new, {STEPS} steps, the tower waits until step {ALONE}" in capsys.readouterr().err
