"""The training loop: data, objective, step, log, sample, save, resume."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.grid import grid
from vilex.images import square
from vilex.lexicon import VisualLexicon
from vilex.quiet import quiet_loading
from vilex.t2i import load_t2i
from vilex.t2i.files import fingerprint, resolve
from vilex.train.checkpoint import (
    flatten_optimizer,
    list_checkpoints,
    load_checkpoint,
    restore_optimizer,
    save_checkpoint,
)
from vilex.train.config import TrainConfig
from vilex.train.data import Batch, make_loader, open_dataset
from vilex.train.health import loss_by_kept, loss_by_noise
from vilex.train.log import Log
from vilex.train.objective import DenoisingObjective
from vilex.train.optim import make_optimizer, make_schedule
from vilex.train.toml import to_dict


class Training:
    """A run: everything that trains, and everything needed to go on exactly where it stopped."""

    def __init__(self, config: TrainConfig):
        config.check()
        self.config, self.out = config, Path(config.run.out)
        if config.run.threads:
            torch.set_num_threads(config.run.threads)
        self.accelerator = Accelerator(cpu=config.run.device == "cpu", mixed_precision=config.run.mixed_precision)
        torch.manual_seed(config.run.seed)
        base = resolve(config.model.base)
        with quiet_loading():
            self.t2i = load_t2i(base, getattr(torch, config.model.frozen_dtype)).to(self.accelerator.device)
            self.encoder = new_encoder(config, self.t2i.width, base)
        if not config.model.encoder:
            self.encoder.pooler.match_vocabulary(self.t2i.vocabulary)
        self.vocabulary_norm = self.t2i.vocabulary.float().norm(dim=1).mean().item()
        self.dataset = open_dataset(config.data)
        self.optimizer = make_optimizer(self.encoder, config.optim)
        self.schedule = make_schedule(self.optimizer, config.optim, config.run.steps)
        self.encoder, self.optimizer = self.accelerator.prepare(self.encoder, self.optimizer)
        self.generator = torch.Generator().manual_seed(config.run.seed)
        self.objective = DenoisingObjective(self.t2i, config.objective, self.generator)
        self.parameters = [p for p in self.encoder.parameters() if p.requires_grad]
        self.ema = EMAModel(self.parameters, decay=config.optim.ema_decay, use_ema_warmup=True, power=0.75)
        self.step = 0
        self.resume()

    def resume(self) -> None:
        """Load the newest checkpoint below `run.out`, if there is one.

        Raises:
            InputError: it belongs to a run with other settings.
        """
        found = list_checkpoints(self.out / "checkpoints")
        if not found:
            return
        tensors, state = load_checkpoint(found[-1])
        _refuse_other_settings(state["config"], json.loads(json.dumps(to_dict(self.config))), self.out)
        self._bare_encoder.load_state_dict(tensors["encoder"])
        restore_optimizer(self.optimizer, tensors.get("optimizer", {}), state["groups"], state["plain"])
        self.schedule.load_state_dict({**state["schedule"], "lr_lambdas": [None] * len(state["groups"])})
        self.ema.shadow_params = [tensors["ema"][str(i)].to(p.device) for i, p in enumerate(self.parameters)]
        self.ema.optimization_step = state["ema_step"]
        self.generator.set_state(tensors["random"]["generator"])
        self.step = state["step"]

    def save(self) -> Path:
        """Write a checkpoint of this very moment."""
        optimizer, groups, plain = flatten_optimizer(self.optimizer)
        tensors = {
            "encoder": self._bare_encoder.state_dict(),
            "optimizer": optimizer,
            "ema": {str(i): value for i, value in enumerate(self.ema.shadow_params)},
            "random": {"generator": self.generator.get_state()},
        }
        state = {
            "config": to_dict(self.config),
            "groups": groups,
            "plain": plain,
            "schedule": {key: value for key, value in self.schedule.state_dict().items() if key != "lr_lambdas"},
            "ema_step": self.ema.optimization_step,
            "base_sha256": self._bare_encoder.config.base_sha256,
        }
        return save_checkpoint(self.out / "checkpoints", self.step, tensors, state, self.config.run.keep)

    def update(self, batch: Batch) -> dict[str, Any]:
        """One step of the optimiser; returns values for the log."""
        batch.pixels, batch.pixel_values = (x.to(self.accelerator.device) for x in (batch.pixels, batch.pixel_values))
        with self.accelerator.autocast():
            loss, seen = self.objective(self.encoder, self.config.model.num_tokens, batch)
        if not torch.isfinite(loss):
            raise InputError(
                f"step {self.step}: the loss is {loss.item()}; lower optim.pooler_lr or raise warmup_steps"
            )
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.config.optim.clip_norm)
        rate = self.schedule.get_last_lr()[-1]
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.config.optim.ema_decay:
            self.ema.step(self.parameters)
        self.step += 1
        return {
            "loss": loss.item(),
            "grad_norm": float(norm),
            "pooler_lr": rate,
            "token_norm": seen["tokens"].norm(dim=-1).mean().item() / self.vocabulary_norm,
            "kept_tokens": seen["keep"].float().mean().item(),
            **loss_by_noise(seen["loss"], seen["t"], self.objective.noise_schedule.config.num_train_timesteps),
            **loss_by_kept(seen["loss"], seen["keep"]),
        }

    @contextmanager
    def averaged(self) -> Iterator[ViLexEncoder]:
        """The encoder with its averaged weights, for a while."""
        if not self.config.optim.ema_decay:
            yield self._bare_encoder
            return
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        try:
            yield self._bare_encoder
        finally:
            self.ema.restore(self.parameters)

    def sample_grid(self) -> Image.Image:
        """Fixed training images, each as source | 1 | 4 | 16 | n tokens."""
        indices = [i * len(self.dataset) // self.config.run.sample_images for i in range(self.config.run.sample_images)]
        sources = [square(self.dataset[i].image, self.t2i.image_size) for i in indices]
        n = self.config.model.num_tokens
        columns = {"source": sources}
        with self.averaged() as encoder:
            lexicon = VisualLexicon(encoder, self.t2i)
            for count in sorted({min(count, n) for count in (1, 4, 16, n)}):
                columns[f"{count}"] = lexicon.reconstruct(sources, count, steps=20)
        return grid([list(row) for row in zip(*columns.values(), strict=True)], list(columns))

    def export(self) -> Path:
        """Write the (averaged) encoder as a model folder: config.json and model.safetensors."""
        folder = self.out / "encoder"
        with self.averaged() as encoder:
            encoder.config.training = {
                "steps": self.step,
                "images": self.step * self.config.run.batch_size,
                "config": to_dict(self.config),
            }
            encoder.save_pretrained(folder, safe_serialization=True)
        return folder

    @property
    def _bare_encoder(self) -> ViLexEncoder:
        return self.accelerator.unwrap_model(self.encoder)


def new_encoder(config: TrainConfig, width: int, base: Path) -> ViLexEncoder:
    """The encoder to train: a given one, or a pre-trained tower under a new pooler."""
    settings = config.model
    recorded = {"base_model": settings.base, "base_sha256": fingerprint(base)}
    if settings.encoder:
        encoder = ViLexEncoder.from_pretrained(resolve(settings.encoder), use_safetensors=True, dtype=torch.float32)
        encoder.config.update(recorded)
        return encoder
    return ViLexEncoder.from_tower(
        settings.tower,
        width=width,
        num_tokens=settings.num_tokens,
        blocks=settings.blocks,
        heads=settings.heads,
        mlp_ratio=settings.mlp_ratio,
        **recorded,
    )


def train(config: TrainConfig, quiet: bool = False) -> Path:
    """Train, or go on training, to `run.steps`; returns the folder of the finished encoder.

    SIGINT and SIGTERM end the run after the step in hand, with a checkpoint; the same command goes on.
    """
    training = Training(config)
    run = config.run
    training.out.mkdir(parents=True, exist_ok=True)
    (training.out / "config.json").write_text(json.dumps(to_dict(config), indent=2))
    loader = make_loader(
        training.dataset,
        config.data,
        batch_size=run.batch_size,
        seed=run.seed,
        start=training.step,
        steps=run.steps,
        image_size=training.t2i.image_size,
        preprocess=_on_cpu(training.encoder.preprocess),
    )
    stop = _StopSignal()
    log = Log(training.out, training.step)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with stop, log, Progress(*columns, disable=quiet) as progress:
        task = progress.add_task("training", total=run.steps, completed=training.step)
        for batch in loader:
            values = training.update(batch)
            log.add(values, run.batch_size)
            progress.update(task, completed=training.step, description=f"loss {values['loss']:.4f}")
            last = training.step == run.steps
            if training.step % run.log_every == 0 or last:
                log.write(training.step)
            if run.sample_every and (training.step % run.sample_every == 0 or last):
                log.picture(training.step, training.sample_grid())
            if training.step % run.save_every == 0 or last or stop.asked:
                training.save()
            if stop.asked:
                raise InputError(f"stopped at step {training.step} of {run.steps}; the same command goes on from there")
    return training.export()


class _StopSignal:
    """Turns SIGINT and SIGTERM into a wish that the loop grants after its step."""

    def __enter__(self) -> "_StopSignal":
        self.asked = False
        self.before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, *_: object) -> None:
        self.asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def _on_cpu(preprocess):
    """Data is prepared on the CPU whatever device the encoder is on."""

    def prepare(images: list[Image.Image]) -> Tensor:
        return preprocess(images).cpu().float()

    return prepare


def _refuse_other_settings(before: dict[str, Any], now: dict[str, Any], out: Path) -> None:
    free = {"run.out", "run.device", "run.threads", "run.log_every", "run.sample_every", "run.sample_images"}
    free |= {"run.save_every", "run.keep", "data.workers"}
    for section, values in now.items():
        for key, value in values.items():
            name = f"{section}.{key}"
            if name not in free and before.get(section, {}).get(key) != value:
                raise InputError(
                    f"{out}: holds a run with {name} = {before.get(section, {}).get(key)!r}, not {value!r}; "
                    "give another run.out, or the same settings to resume"
                )
