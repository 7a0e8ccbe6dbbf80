"""Two real processes learn what one learns, replicated and sharded."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.forked import Forked
from tests.understand import small
from vilex.cli.app import app


def train(folder, out, *overrides, processes=1):
    words = ["understand", "train", f"{folder}/run.toml", f"run.out={out}", *overrides, "--quiet"]
    if processes == 1:  # in this process, which has imported everything already
        app(words, standalone_mode=False)
    else:
        Forked(*words, processes=processes).finish()
    lines = map(json.loads, Path(out, "log.jsonl").read_text().splitlines())
    return [row["loss"] for row in lines], load_file(f"{out}/vlm/model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_does(tmp_path, model_folder, parallel):
    small.paligemma(tmp_path / "base")
    lines = []
    for i, colour in enumerate(["red", "blue", "green", "yellow"] * 2):
        Image.new("RGB", (24, 20 + i), colour).save(tmp_path / f"{i}.png")
        lines.append(json.dumps({"image": f"{i}.png", "prefix": "what colour is this", "suffix": colour, "id": i}))
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    (tmp_path / "run.toml").write_text(
        f'[model]\nbase = "base"\nencoder = "{model_folder}"\n[features]\nkind = "patches+tokens"\n'
        '[data]\ntrain = "train.jsonl"\n[optim]\nlr = 3e-3\n'
        '[run]\nsteps = 4\nbatch_size = 4\nmicro_batch = 1\ndevice = "cpu"\nthreads = 1\n'
        "log_every = 1\nlook_every = 0\n"
    )
    losses, weights = train(tmp_path, tmp_path / "one")
    shared, same = train(tmp_path, tmp_path / "two", f"run.parallel={parallel}", processes=2)
    assert shared == pytest.approx(losses, rel=1e-4)
    assert weights.keys() == same.keys()
    assert all(torch.allclose(weights[key], same[key], atol=1e-3) for key in weights)
