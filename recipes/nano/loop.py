"""What every stage's training loop shares: batches, the learning rate, the weights' average, the log."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor, nn


def batches(count: int, batch: int, images: int, seed: int) -> Iterator[Tensor]:
    """Index batches over `count` rows, reshuffled each epoch, until `images` have been drawn."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(images // batch):
        while len(order) < batch:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        yield order[:batch]
        order = order[batch:]


class Trainer:
    """AdamW, warm-up and cosine decay, clipped gradients, an average of the weights, a JSONL log.

    Args:
        slow: a parameter of `model` that learns at a tenth of the rate, if any.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        steps: int,
        log: Path,
        warmup: int = 100,
        decay: float = 0.999,
        slow: nn.Parameter | None = None,
    ):
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        groups = [{"params": [p for p in self.parameters if p is not slow], "lr": lr}]
        if slow is not None:
            groups.append({"params": [slow], "lr": lr / 10})
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.01, betas=(0.9, 0.99), fused=True)
        self.schedule = get_cosine_schedule_with_warmup(self.optimizer, warmup, steps)
        self.ema = EMAModel(self.parameters, decay=decay, use_ema_warmup=True, power=0.75)
        self.log, self.steps, self.step_count = log, steps, 0
        self.started, self.sums, self.summed = time.time(), {}, 0
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")

    def step(self, loss: Tensor, **values: Tensor | float) -> None:
        """Back-propagate one loss, update, and log the mean of loss and `values` every 100 steps."""
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.parameters)
        self.step_count += 1
        for name, value in {"loss": loss, "grad_norm": norm, **values}.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(torch.as_tensor(value).detach())
        self.summed += 1
        if self.step_count % 100 == 0 or self.step_count == self.steps:
            self._write()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged weights for a while, say for a sample; then training's own again."""
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        yield
        self.ema.restore(self.parameters)

    def use_average(self) -> None:
        """Replace the weights by their average: the end of training."""
        self.ema.copy_to(self.parameters)

    def _write(self) -> None:
        row = {name: round(total / self.summed, 5) for name, total in self.sums.items()}
        row = {"step": self.step_count, "of": self.steps, "seconds": round(time.time() - self.started, 1), **row}
        with self.log.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)
        self.sums, self.summed = {}, 0
