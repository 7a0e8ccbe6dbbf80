"""What every stage's training loop shares: order, noise, the learning rate, the weights' average, the log, the state.

A stage survives a kill at any moment. All that a step draws at random follows from the seed and the step's number,
and every few minutes weights, average and optimiser are written aside and renamed into place; the same command
goes on from there and ends with the weights of an undisturbed run.

    trainer = Trainer("tower", model, settings, preset, out)
    for step in trainer:
        index = step.rows(len(pixels))
        with trainer.autocast():
            loss = ...
        trainer.update(loss)
    trainer.use_average()

Or, with each of the preset's threads at some of the pictures (`crew.py`), `trainer.learn(losses)`, where `losses` gives
the mean loss of a model on some rows of the batch.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from recipes.nano.crew import Crew, Losses
from recipes.nano.optim import Share, shares_of
from recipes.nano.precision import autocast, choose_precision
from recipes.nano.presets import Preset
from vilex.train.signals import StopSignal

COOLDOWN = 0.2  # of the steps: the rate stays until then, and falls to zero; a run that still stays can be made longer
LOG_EVERY = 100
MOST = 1.0  # of the gradients' norm; a longer one is made as long as this
SAMPLES = 8  # times that a stage looks at its pictures


class StageSettings(Protocol):
    """What every stage's section of a preset has."""

    images: int
    batch: int
    lr: float


@dataclass(frozen=True)
class Step:
    """One step's number and its own randomness, the same whenever and wherever it is drawn."""

    number: int
    batch: int
    seed: int

    @property
    def generator(self) -> torch.Generator:
        """For noise and levels."""
        return torch.Generator().manual_seed(int(np.random.SeedSequence((self.seed, self.number)).generate_state(1)[0]))

    @property
    def rng(self) -> np.random.Generator:
        """For choices of captions and the like."""
        return np.random.default_rng((self.seed, self.number, 1))

    def rows(self, count: int) -> Tensor:
        """[batch] of `count` row numbers, each row once an epoch, reshuffled by epoch."""
        places = range(self.number * self.batch, (self.number + 1) * self.batch)
        return torch.from_numpy(np.array([_order(count, place // count, self.seed)[place % count] for place in places]))


class Trainer:
    """Steps, from where the stage stopped to its end: warm-up, constant rate, cool-down; clipped gradients, an average.

    Iterating gives the steps left. A SIGTERM or Ctrl-C writes the state and ends the process with status 1.

    Args:
        name: of the stage; `out`/state/NAME.safetensors holds its state, `out`/logs/NAME.jsonl its log.
        model: whose parameters train.
        slow: a parameter that learns at a tenth of the rate, if any.
        crew: threads that `learn` shares a step among.

    Raises:
        SystemExit: the state in `out` belongs to other settings.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        settings: StageSettings,
        preset: Preset,
        out: Path,
        warmup: int = 100,
        decay: float = 0.999,
        slow: nn.Parameter | None = None,
        seed: int = 0,
        crew: int = 1,
    ):
        self.name, self.model, self.preset = name, model, preset
        self.steps, self.batch, self.warmup, self.seed = settings.images // settings.batch, settings.batch, warmup, seed
        self.settings = _recorded(settings)
        self.state, self.log = out / "state" / f"{name}.safetensors", out / "logs" / f"{name}.jsonl"
        named = {key: p for key, p in model.named_parameters() if p.requires_grad}
        crew = min(crew, self.batch, len(named))
        self.parameters, self.crew = list(named.values()), Crew(model, crew)
        rule = getattr(settings, "optimizer", "adamw")
        self.shares = [Share(some, settings.lr, rule, slow, decay) for some in shares_of(named, crew)]
        self.done, self.seconds, self.precision = 0, 0.0, ""
        self.resume()
        if preset.precision != "auto":  # asked for: a run may go on elsewhere in another format
            self.precision = preset.precision
        self.precision = self.precision or choose_precision(preset.device)
        for share in self.shares:
            share.optimizer.multiply_in(torch.bfloat16 if self.precision == "bf16" else torch.float32)
        self.sums: dict[str, Tensor] = {}
        self.summed = 0

    def __iter__(self) -> Iterator[Step]:
        first = self.first = self.done
        saved = self.clock = time.monotonic()
        if first < self.steps:
            print(f"{self.name}: step {first:,} of {self.steps:,}, {self.precision}", flush=True)
        with StopSignal() as stop:
            for number in range(first, self.steps):
                yield Step(number, self.batch, self.seed)
                if self.done != number + 1:
                    raise RuntimeError(f"{self.name}: a step without `update` or `learn`")
                if time.monotonic() - saved > 60 * self.preset.save_minutes or stop.asked:
                    self.save()
                    saved = time.monotonic()
                if stop.asked:
                    raise SystemExit(
                        f"{self.name}: stopped at step {self.done:,} of {self.steps:,}; the same command goes on"
                    )
        if self.done > first:
            self.save()

    def autocast(self) -> AbstractContextManager[None]:
        return autocast(self.preset.device, self.precision)

    def rate(self, step: int) -> float:
        """The share of the full learning rate: a ramp up, one, a ramp down over the last steps."""
        return min(1.0, (step + 1) / max(1, self.warmup), (self.steps - step) / max(1, COOLDOWN * self.steps))

    def update(self, loss: Tensor, **values: Tensor) -> None:
        """Back-propagate one loss, update, and log the means of loss and `values` every 100 steps."""
        loss.backward()
        self._move(loss, values)

    def learn(self, losses: Losses) -> None:
        """As `update`, by the whole batch's mean loss, of which each thread computes a part.

        Args:
            losses: a model and rows of the batch -> their mean loss, and values for the log; called in the threads.
        """
        self._move(*self.crew.gradients(losses, self.batch, self.parameters))

    def _move(self, loss: Tensor, values: dict[str, Tensor]) -> None:
        norm = torch.stack(self.crew.each(lambda number: self.shares[number].norm())).norm()
        rate, scale = self.rate(self.done), MOST / max(MOST, float(norm))
        self.crew.each(lambda number: self.shares[number].step(rate, scale))
        self.done += 1
        for name, value in {"loss": loss, "grad_norm": norm, **values}.items():
            self.sums[name] = self.sums.get(name, torch.zeros(())) + value.detach().float().cpu()
        self.summed += 1
        if self.done % LOG_EVERY == 0 or self.done == self.steps:
            self._write()

    @property
    def looks(self) -> bool:
        """Whether it is time for samples: at fixed shares of the run, not at its end."""
        return self.done % max(1, self.steps // SAMPLES) == 0 and self.done < self.steps

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged weights for a while, say for a sample; then training's own again."""
        for share in self.shares:
            share.ema.store(share.parameters)
        self.use_average()
        yield
        for share in self.shares:
            share.ema.restore(share.parameters)

    def use_average(self) -> None:
        """Replace the weights by their average: the end of training."""
        for share in self.shares:
            share.ema.copy_to(share.parameters)

    def save(self) -> None:
        """Write this moment, aside and then renamed: a file that is there is whole."""
        tensors = {f"model/{key}": value for key, value in self.model.state_dict().items()}
        for share in self.shares:
            averages = zip(share.names, share.ema.shadow_params, strict=True)
            tensors |= {f"average/{key}": value for key, value in averages}
            tensors |= {f"optimizer/{key}": value for key, value in share.optimizer.state().items()}
        plain = {
            "step": self.done,
            "steps": self.steps,
            "seconds": self.elapsed,
            "precision": self.precision,
            "settings": self.settings,
            "averaged": self.shares[0].ema.optimization_step,
        }
        self.state.parent.mkdir(parents=True, exist_ok=True)
        aside = self.state.with_suffix(".tmp")
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in tensors.items()},
            aside,
            {"json": json.dumps(plain)},
        )
        os.replace(aside, self.state)

    def resume(self) -> None:
        """Load the state, if there is one, and forget what the log says of later steps."""
        rows = self.log.read_text().splitlines() if self.log.is_file() else []
        if self.state.is_file():
            with safe_open(self.state, "pt") as file:
                plain = json.loads(file.metadata()["json"])
                self._refuse_other_run(plain)
                parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
                for key in file.keys():  # noqa: SIM118  (a file, no dictionary)
                    part, name = key.split("/", 1)
                    parts[part][name] = file.get_tensor(key)
            self.model.load_state_dict(parts["model"])
            for share in self.shares:
                named = zip(share.names, share.parameters, strict=True)
                share.ema.shadow_params = [parts["average"][name].to(p.device) for name, p in named]
                share.ema.optimization_step = plain["averaged"]
                share.optimizer.load(
                    {path: value for path, value in parts["optimizer"].items() if path.rsplit("/", 1)[0] in share.names}
                )
            self.done, self.seconds, self.precision = plain["step"], plain["seconds"], plain["precision"]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in rows if _step_of(row) <= self.done]
        self.log.write_text("".join(row + "\n" for row in kept))

    @property
    def elapsed(self) -> float:
        """Seconds of training, of all its parts together."""
        return self.seconds + time.monotonic() - self.clock

    def _refuse_other_run(self, before: dict[str, Any]) -> None:
        """The number of steps may change while the rate still stays; all else would be another run."""
        remedy = "remove the file to begin the stage anew, or give the same settings"
        for key, value in self.settings.items():
            was = before["settings"].get(key)
            if was != value:
                raise SystemExit(f"{self.state}: belongs to a run with {key} = {was!r}, not {value!r}; {remedy}")
        falls = (1 - COOLDOWN) * min(self.steps, before["steps"])
        if before["steps"] != self.steps and before["step"] > falls:
            images = before["steps"] * self.batch
            raise SystemExit(
                f"{self.state}: belongs to a run of {images:,} images, and its rate has begun to fall; {remedy}"
            )

    def _write(self) -> None:
        row = {name: round(float(total) / self.summed, 5) for name, total in self.sums.items()}
        images, seconds = self.done * self.batch, self.elapsed
        speed = (self.done - self.first) * self.batch / max(time.monotonic() - self.clock, 1e-9)
        left = (self.steps - self.done) * self.batch / speed
        row = {"step": self.done, "images": images, "seconds": round(seconds, 1), **row}
        with self.log.open("a") as file:
            file.write(json.dumps(row) + "\n")
        said = ", ".join(
            f"{key} {value:.4f}" for key, value in row.items() if isinstance(value, float) and key != "seconds"
        )
        print(
            f"{self.name}: {images:,} of {self.steps * self.batch:,} images, {speed:.0f} a second, "
            f"{_clock(left)} left; {said}",
            flush=True,
        )
        self.sums, self.summed = {}, 0


def _recorded(settings: StageSettings) -> dict[str, Any]:
    """A stage's settings as JSON gives them back, without its lengths."""
    values = json.loads(json.dumps(asdict(settings)))
    return {key: value for key, value in values.items() if not key.endswith("images")}


_orders: dict[tuple[int, int, int], np.ndarray] = {}


def _order(count: int, epoch: int, seed: int) -> np.ndarray:
    """An epoch's order of rows; the last two are kept."""
    key = (count, epoch, seed)
    if key not in _orders:
        while len(_orders) > 1:
            _orders.pop(next(iter(_orders)))
        _orders[key] = np.random.default_rng((seed, epoch, 2)).permutation(count)
    return _orders[key]


def _step_of(row: str) -> float:
    """A log line's step; infinity for half a line of a process that was killed."""
    try:
        return json.loads(row)["step"]
    except ValueError:
        return float("inf")


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"
