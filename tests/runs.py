"""What a training run left behind."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file


def losses(config):
    lines = map(json.loads, Path(config.run.out, "log.jsonl").read_text().splitlines())
    return {row["step"]: row["loss"] for row in lines}


def weights(config):
    return load_file(f"{config.run.out}/encoder/model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
