"""A stage of a second or two, to be stopped and killed: `python -m tests.recipes.toy_stage OUT`."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from recipes.nano.loop import Trainer
from recipes.nano.presets import Preset

PRESET = Preset(precision="fp32", save_minutes=0.0, threads=1)


@dataclass(frozen=True)
class Settings:
    images: int = 240
    batch: int = 4
    lr: float = 1e-2
    optimizer: str = "adamw"


def new_model() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(2, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 4, 3))
    return layers.to(memory_format=torch.channels_last)


def train(
    out: Path, settings: Settings, stop_after: int | None = None, pause: float = 0.0, crew: int | None = None
) -> nn.Module:
    """A small stage; `stop_after`: leave it without a word after so many steps; `crew`: threads that share a step."""
    model = new_model()
    trainer = Trainer("toy", model, settings, PRESET, out, warmup=5, seed=3, crew=crew or 1)
    for step in trainer:
        if stop_after is not None and step.number >= stop_after:
            break
        time.sleep(pause)
        x = torch.randn(settings.batch, 2, 4, 4, generator=step.generator) + step.rows(10).view(-1, 1, 1, 1)
        weight = step.rng.random()

        def losses(model: nn.Module, rows: slice, x: torch.Tensor = x, weight: float = weight):
            square = model(x[rows]).square().mean()
            return square + weight * model[3].weight.sum(), {"square": square}

        if crew is None:
            loss, values = losses(model, slice(None))
            trainer.update(loss, **values)
        else:
            trainer.learn(losses)
    else:
        trainer.use_average()
    return model


if __name__ == "__main__":
    out = Path(sys.argv[1])
    model = train(out, Settings(), pause=0.02)
    save_file({name: p.detach().contiguous() for name, p in model.named_parameters()}, out / "end.safetensors")
