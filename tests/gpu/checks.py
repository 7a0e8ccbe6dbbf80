"""What must hold on a card, for any device and any size of models: real ones on CUDA, tiny ones on the CPU."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from vilex.bulk.encode import EncodingJob, encode_collection, on_devices
from vilex.bulk.shard import load_shard
from vilex.data.config import SourceConfig
from vilex.data.sources import open_source
from vilex.encoder import load_encoder
from vilex.lexicon import VisualLexicon
from vilex.train.loop import train


def losses(folder):
    rows = map(json.loads, Path(folder, "log.jsonl").read_text().splitlines())
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def check_training_and_resuming(models, data, folder, device, steps, tolerance, **run):
    """Steps in bfloat16 with data workers; a run that goes on from the middle ends where the whole one does."""
    half = steps // 2
    config = models.config(data, folder / "whole", device, steps=steps, save_every=half, keep=3, log_every=1, **run)
    assert config.data.workers == 2 and config.run.mixed_precision == "bf16"
    finished = train(config, quiet=True)
    whole = losses(folder / "whole")
    assert sorted(whole) == list(range(1, steps + 1)) and all(map(math.isfinite, whole.values()))

    middle = f"checkpoints/step-{half:07d}"
    shutil.copytree(folder / "whole" / middle, folder / "resumed" / middle)
    shutil.copy(folder / "whole" / "config.json", folder / "resumed")
    again = train(replace(config, run=replace(config.run, out=str(folder / "resumed"))), quiet=True)
    resumed = losses(folder / "resumed")
    assert sorted(resumed) == list(range(half + 1, steps + 1))
    for step, loss in resumed.items():
        assert math.isclose(loss, whole[step], rel_tol=tolerance), (step, loss, whole[step])

    before, after = (
        load_file(folder / "whole" / "checkpoints" / f"step-{step:07d}" / "encoder.safetensors")
        for step in (half, steps)
    )
    for part in ("tower.", "pooler."):
        assert any(not torch.equal(before[name], after[name]) for name in after if name.startswith(part)), part
    first, second = (load_encoder(path).state_dict() for path in (finished, again))
    for name, value in first.items():
        assert torch.allclose(value, second[name], rtol=0, atol=tolerance * value.abs().max().item() + 1e-6), name


def pixels(pictures):
    return np.stack([np.asarray(picture, dtype=np.float32) for picture in pictures])


def check_drawing(models, device, steps, allowed):
    """Half precision draws what float32 draws, about; offloaded parts draw the same."""
    drawn = {}
    for name, dtype, offload in (
        ("float32", torch.float32, None),
        ("bfloat16", torch.bfloat16, None),
        ("float16", torch.float16, None),
        ("offloaded", torch.bfloat16, "model"),
        ("by layer", torch.bfloat16, "sequential"),
    ):
        lexicon = VisualLexicon.from_pretrained(models.encoder, device=device, dtype=dtype, offload=offload)
        tokens = torch.randn(4, lexicon.t2i.width, generator=torch.Generator().manual_seed(0)) * 0.02
        drawn[name] = pixels(lexicon.generate("<cat> in snow", {"cat": tokens.to(device, dtype)}, steps=steps, seed=3))
    assert drawn["float32"].std() > 5
    for name in ("bfloat16", "float16"):
        assert np.abs(drawn[name] - drawn["float32"]).mean() < allowed, name
    for name in ("offloaded", "by layer"):
        assert np.abs(drawn[name] - drawn["bfloat16"]).mean() < 1, name


def check_bulk_encoding(models, data, folder, device):
    """Every image of the shards, in order, as the encoder itself encodes it."""
    count, refused = encode_collection(
        EncodingJob(SourceConfig(path=str(data)), folder, str(models.encoder)), on_devices([device])
    )
    shards = [load_shard(path) for path in sorted(folder.glob("tokens-*.safetensors"))]
    assert refused == [] and count == sum(len(shard.names) for shard in shards) > 0
    encoder = load_encoder(models.encoder).to(device)
    first = next(iter(open_source(SourceConfig(path=str(data)), encoder.config.image_size).read(0)))()
    alone = encoder.encode([first.image])[0].cpu()
    assert shards[0].names[0] == first.name
    assert torch.allclose(shards[0].tokens[0].float(), alone.float(), rtol=0, atol=0.02 * alone.abs().max().item())


def check_memory(row, low=0.6, high=1.3):
    """Measured at peak against planned; workspaces come on top, and activations of convolutions may be fewer."""
    assert low < row.memory / row.planned < high, row
