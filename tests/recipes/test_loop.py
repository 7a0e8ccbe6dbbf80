"""The recipe's training loop: what a step draws follows from its number; kills at any moment change nothing."""

import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recipes.nano.crew import Crew
from recipes.nano.loop import COOLDOWN, Step, Trainer
from recipes.nano.precision import choose_precision
from tests.forked import Forked
from tests.recipes.toy_stage import PRESET, Settings, new_model, train


def test_rows_are_each_seen_once_an_epoch_in_another_order():
    rows = torch.cat([Step(number, 4, seed=1).rows(10) for number in range(5)]).view(2, 10)
    assert [sorted(epoch.tolist()) for epoch in rows] == [list(range(10))] * 2
    assert rows[0].tolist() != rows[1].tolist()
    assert torch.equal(Step(3, 4, seed=1).rows(10), rows.flatten()[12:16])


def test_a_steps_noise_follows_from_its_number_alone():
    a, b = (torch.randn(5, generator=Step(7, 4, seed=1).generator) for _ in range(2))
    assert torch.equal(a, b)
    others = Step(8, 4, seed=1), Step(7, 4, seed=2)
    assert not any(torch.equal(a, torch.randn(5, generator=step.generator)) for step in others)


@pytest.mark.parametrize("rule", ["adamw", "muon"])
def test_a_stage_that_was_left_goes_on_to_the_same_weights(tmp_path, rule):
    settings = Settings(optimizer=rule)
    whole = train(tmp_path / "whole", settings)
    for stop in (7, 8, 31):
        train(tmp_path / "parted", settings, stop_after=stop)
    parted = train(tmp_path / "parted", settings)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parted.parameters(), strict=True))
    logs = [(tmp_path / name / "logs" / "toy.jsonl").read_text().splitlines() for name in ("whole", "parted")]
    assert [json.loads(row)["step"] for row in logs[0]] == [json.loads(row)["step"] for row in logs[1]]


@pytest.mark.parametrize("rule", ["adamw", "muon"])
@pytest.mark.parametrize("crew", [1, 2, 3, 8])
def test_threads_that_share_a_step_change_nothing_but_the_order_of_sums(tmp_path, rule, crew):
    """A batch of 5 among 2, 3, and more than it or the model has parts; the log's means are the whole batch's, too."""
    settings = Settings(images=100, batch=5, optimizer=rule)
    alone, shared = train(tmp_path / "alone", settings), train(tmp_path / "shared", settings, crew=crew)
    for a, b in zip(alone.parameters(), shared.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    rows = [
        json.loads((tmp_path / name / "logs" / "toy.jsonl").read_text().splitlines()[-1])
        for name in ("alone", "shared")
    ]
    assert rows[0].pop("seconds") >= 0 and rows[1].pop("seconds") >= 0
    assert rows[0] == pytest.approx(rows[1], rel=1e-3)


def test_a_crew_goes_on_to_the_same_weights_whatever_its_size_was(tmp_path):
    settings = Settings(optimizer="muon")
    whole = train(tmp_path / "whole", settings, crew=2)
    train(tmp_path / "parted", settings, stop_after=9, crew=2)
    parted = train(tmp_path / "parted", settings, crew=2)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parted.parameters(), strict=True))
    train(tmp_path / "resized", settings, stop_after=9, crew=2)
    for a, b in zip(whole.parameters(), train(tmp_path / "resized", settings, crew=1).parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("asked", "used"), [("auto", "fp32"), ("bf16", "bf16"), ("fp32", "fp32")])
def test_a_run_goes_on_in_the_precision_it_had_unless_another_is_asked_for(tmp_path, asked, used):
    train(tmp_path, Settings(), stop_after=9)
    preset = replace(PRESET, precision=asked)
    assert Trainer("toy", new_model(), Settings(), preset, tmp_path, warmup=5, seed=3).precision == used


def test_each_thread_of_a_crew_has_its_own_hooks_over_the_same_weights():
    model = new_model()
    seen: list[int] = []
    crew = Crew(model, 2)
    crew.models[1].register_forward_hook(lambda *_: seen.append(1))
    model(torch.ones(1, 2, 4, 4))
    assert not seen
    crew.models[1](torch.ones(1, 2, 4, 4))
    assert seen == [1]
    assert all(a is b for a, b in zip(model.parameters(), crew.models[1].parameters(), strict=True))


def test_an_error_in_one_thread_ends_the_step():
    crew = Crew(new_model(), 2)

    def losses(model, rows):
        if rows.start:
            raise ValueError("the second half")
        return model(torch.ones(2, 2, 4, 4)).sum(), {}

    with pytest.raises(ValueError, match="the second half"):
        crew.gradients(losses, 4, list(crew.models[0].parameters()))


def test_kills_at_any_moment_change_nothing(tmp_path):
    """SIGKILL at three moments, among them perhaps the middle of a save; SIGTERM at one."""

    def start(out: Path) -> Forked:
        return Forked(out, module="tests.recipes.toy_stage")

    state = tmp_path / "killed" / "state" / "toy.safetensors"
    assert start(tmp_path / "whole").wait() == 0
    for i, kind in enumerate((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)):
        before = state.stat().st_mtime if state.exists() else 0
        process = start(tmp_path / "killed")
        while not (state.exists() and state.stat().st_mtime > before):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.05 + 0.13 * i)
        process.send_signal(kind)
        assert process.wait() == (-9 if kind == signal.SIGKILL else 1)
    assert start(tmp_path / "killed").wait() == 0
    ends = [load_file(tmp_path / name / "end.safetensors") for name in ("whole", "killed")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_rate_ramps_up_stays_and_falls_to_zero(tmp_path):
    trainer = Trainer("toy", new_model(), Settings(images=400), PRESET, tmp_path, warmup=10)
    rates = [trainer.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[50] == rates[int(100 * (1 - COOLDOWN))] == 1
    assert rates[90] == pytest.approx(0.5) and rates[100] == 0


def test_a_state_of_other_settings_is_refused_and_a_longer_run_is_not(tmp_path):
    train(tmp_path, Settings(), stop_after=10)
    with pytest.raises(SystemExit, match=r"lr = 0.01, not 0.02; remove the file"):
        train(tmp_path, Settings(lr=0.02))
    longer = Trainer("toy", new_model(), replace(Settings(), images=480), PRESET, tmp_path)
    assert longer.done == 10 and longer.steps == 120
    train(tmp_path, Settings())
    with pytest.raises(SystemExit, match="its rate has begun to fall"):
        Trainer("toy", new_model(), replace(Settings(), images=480), PRESET, tmp_path)


def test_the_average_is_lent_and_given_back(tmp_path):
    model = new_model()
    trainer = Trainer("toy", model, Settings(), PRESET, tmp_path)
    for _ in trainer:
        trainer.update(model(torch.ones(1, 2, 4, 4)).square().mean())
    own = model[3].weight.clone()
    with trainer.averaged():
        assert not torch.equal(model[3].weight, own)
    assert torch.equal(model[3].weight, own)


def test_precision_is_what_is_faster_here():
    a, b = torch.randn(512, 512), torch.randn(512, 512).bfloat16()

    def seconds(x: torch.Tensor) -> float:
        started = time.perf_counter()
        for _ in range(20):
            x @ x
        return time.perf_counter() - started

    ratio = min(seconds(a) for _ in range(3)) / min(seconds(b) for _ in range(3))
    if ratio > 2 or ratio < 0.8:  # clear cases; between them either choice is right
        assert choose_precision("cpu") == ("bf16" if ratio > 1 else "fp32")
