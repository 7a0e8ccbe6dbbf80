"""Real processes: two that share a run learn what one learns, and a run that is killed goes on."""

import json
import os
import random
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.forked import Forked
from vilex.train.checkpoint import list_checkpoints
from vilex.train.config import TrainConfig
from vilex.train.loop import train
from vilex.train.toml import load_toml

KILLS = int(os.environ.get("VILEX_KILLS", "3"))


@pytest.fixture
def run_toml(tmp_path, sd_folder, tower_folder, images):
    """A debug run's TOML file; it writes to `run` beside it unless told otherwise."""
    path = tmp_path / "run.toml"
    path.write_text(
        f"""
        [model]
        base = "{sd_folder[2]}"
        tower = "{tower_folder}"
        num_tokens = 8
        blocks = 2
        heads = 4

        [data]
        path = "{images}"

        [optim]
        tower_lr = 1e-4
        pooler_lr = 3e-3
        warmup_steps = 4
        ema_decay = 0.99

        [run]
        out = "{tmp_path / "run"}"
        steps = 12
        batch_size = 4
        threads = 1
        device = "cpu"
        log_every = 1
        sample_every = 0
        save_every = 3
        """
    )
    return path


def start(toml, *overrides, processes=1):
    return Forked("train", toml, *overrides, "--quiet", processes=processes)


def alone(toml, *overrides):
    """The same in this process, which has imported everything already."""
    train(load_toml(TrainConfig, toml, list(overrides)), quiet=True)


def losses(folder):
    return [json.loads(line)["loss"] for line in Path(folder, "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("parallel", "optimizer"), [("ddp", "adafactor"), ("fsdp", "adamw")])
def test_two_processes_learn_what_one_learns(run_toml, tmp_path, parallel, optimizer):
    same = f"optim.name={optimizer}"
    alone(run_toml, same, f"run.out={tmp_path / 'one'}")
    start(run_toml, same, f"run.out={tmp_path / 'two'}", f"run.parallel={parallel}", processes=2).finish()
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 12 and two == pytest.approx(one, rel=1e-3)
    assert (tmp_path / "two" / "encoder" / "model.safetensors").is_file()


def test_two_processes_learn_in_buckets_what_one_learns(run_toml, tmp_path, images):
    """Theirs are other micro-batches, and not equally many."""
    for i, path in enumerate(sorted(images.glob("*.png"))):
        Image.open(path).resize([(48, 30), (30, 50), (40, 38)][i % 3]).save(path)
    same = ['data.sizes=["24x16", "16x24", "20x20"]', "data.fit=pad", "run.steps=4", "optim.name=adamw"]
    alone(run_toml, *same, f"run.out={tmp_path / 'one'}")
    start(run_toml, *same, f"run.out={tmp_path / 'two'}", processes=2).finish()
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 4 and two == pytest.approx(one, rel=1e-3)


def test_killed_at_any_moment_it_goes_on_to_the_same_weights(run_toml, tmp_path):
    """`kill -9` at random moments; VILEX_KILLS=20 for a longer siege."""
    start(run_toml, f"run.out={tmp_path / 'whole'}", "run.steps=60").finish()
    out, rng, lost = tmp_path / "killed", random.Random(0), []
    for _ in range(KILLS):
        process = start(run_toml, f"run.out={out}", "run.steps=60")
        log, before = out / "log.jsonl", _logged(out)
        while process.poll() is None and _logged(out) <= before:
            time.sleep(0.02)  # until it trains
        time.sleep(rng.uniform(0, 0.6))
        if process.poll() is not None:
            break
        process.kill()
        saved = list_checkpoints(out / "checkpoints")
        lost.append(_logged(out) - (int(saved[-1].name.split("-")[1]) if saved else 0))
        assert log.is_file()
    assert lost and max(lost) <= 4  # three steps between checkpoints, and the one in hand
    start(run_toml, f"run.out={out}", "run.steps=60").finish()
    whole, killed = (load_file(tmp_path / name / "encoder" / "model.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys() and all(torch.equal(whole[name], killed[name]) for name in whole)
    assert losses(out) == losses(tmp_path / "whole")


def _logged(out):
    """The last step that a run logged."""
    path = Path(out, "log.jsonl")
    lines = path.read_text().splitlines() if path.is_file() else []
    steps = []
    for line in lines:
        try:
            steps.append(json.loads(line)["step"])
        except ValueError:
            continue  # half a line, as a kill may leave it
    return max(steps, default=0)
