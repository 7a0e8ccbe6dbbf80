"""A transfer's state: what learns, what it is asked, and everything needed to go on where it stopped."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch import Tensor, nn

from vilex.errors import InputError
from vilex.train.checkpoint import flatten_optimizer, newest_whole, save_checkpoint, set_aside, unflatten_optimizer
from vilex.train.config import RunConfig
from vilex.train.engine import Engine
from vilex.train.run_folder import writing
from vilex.train.toml import to_dict
from vilex.understand.cache import FeatureCache
from vilex.understand.config import TransferConfig, TransferRun
from vilex.understand.examples import Example, read_examples
from vilex.understand.lora import add_lora, merge_lora
from vilex.understand.residual_dropout import ResidualDropout
from vilex.understand.samples import AskedBatch, Gallery, Shown, pictures_of
from vilex.understand.vlm import VisualLanguageModel
from vilex.understand.vlm_folder import make_vlm, save_vlm

# What may change when a run goes on: it is about this machine, or about what is written when.
FREE = {"out", "device", "threads", "log_every", "wandb", "look_every", "look_examples", "save_every", "keep"}
FREE = {f"run.{name}" for name in FREE | {"micro_batch", "parallel", "gradient_checkpointing", "tf32"}}
FREE |= {"data.workers", "data.max_bad_share", "data.validation", "decode.beams", "decode.max_new_tokens"}
FREE |= {"features.cache"}


class Transfer:
    """A run: everything that learns, and everything needed to go on exactly where it stopped.

    Args:
        engine: the processes; made from the configuration if not given.

    Attributes:
        step: steps done. steps: of the run. resumed: the checkpoint it goes on from, if any.
        notes: lines on what is unusual. counted: examples seen, and broken ones among them.
    Raises:
        InputError: a model or a file cannot be read, or the run's folder holds one with other settings.
    """

    def __init__(self, config: TransferConfig, engine: Engine | None = None):
        self.config, self.out = config, Path(config.run.out)
        run = config.run
        self.engine = engine or make_engine(config.run)
        self.examples = read_training(config)
        self.looked_at = read_validation(config)[: run.look_examples] if run.look_every else []
        torch.manual_seed(run.seed)
        self.vlm = self._make_vlm()
        self.notes = list(self.vlm.notes)
        if self.engine.sharded and self.looked_at:
            self.notes.append("run.parallel = fsdp: data.validation is not looked at; use `vilex understand eval`")
        self.gallery = Gallery(self.vlm.features.views, self._cache())
        tower = self.vlm.lm.model.vision_tower if self.vlm.is_paligemma else None
        if self.vlm.is_paligemma:
            self.vlm.lm.model.vision_tower = None  # it looks beside the model, and no process has a shard of it
        self.tower = tower
        self.model = self.engine.prepare(cast(Any, self.vlm))
        self.trained = {name: p for name, p in self.vlm.named_parameters() if p.requires_grad}
        self.steps = run.steps or max(1, round(run.epochs * len(self.examples) / run.batch_size))
        self.optimizer = self.engine.prepare_optimizer(make_transfer_optimizer(self.vlm, config))
        warmup = round(config.optim.warmup * self.steps)
        self.schedule = get_cosine_schedule_with_warmup(self.optimizer, warmup, self.steps)
        self.step, self.counted = 0, Counter(seen=0, bad=0, cut=0)
        self.resumed: Path | None = None
        self._resume()
        self.saved = self.step if self.resumed else -1

    def _make_vlm(self) -> VisualLanguageModel:
        config = self.config
        model = config.model
        vlm = make_vlm(model.base, model.encoder, config.features, config.data.text_length, model.scratch)
        choose_learning(vlm, config)
        self.dropout = ResidualDropout(vlm.lm, config.objective.dropout) if config.objective.dropout else None
        if config.run.gradient_checkpointing:
            vlm.lm.gradient_checkpointing_enable({"use_reentrant": False})
        vlm.features.to(self.engine.device, getattr(torch, config.features.dtype))
        return vlm.train()

    def _cache(self) -> FeatureCache | None:
        """Features of all pictures, computed where they are not kept yet, each process its share."""
        config = self.config.features
        if not config.cache:
            return None
        features = self.vlm.features
        cache = FeatureCache(Path(config.cache), features, getattr(torch, config.cache_dtype))
        rank, world = self.engine.rank, self.engine.world
        pictures = list(dict.fromkeys(pictures_of([*self.examples, *self.looked_at])))
        refused = cache.fill(pictures[rank::world], features)
        self.notes += refused[:3]
        self.engine.wait()
        cache.reload()
        return cache

    def parts(self, shown: Shown) -> list[Tensor]:
        """Features of what is shown: computed, or as they are kept."""
        if shown.pixels is not None:
            return self.vlm.features(shown.pixels)
        return [part.to(self.engine.device, torch.float32) for part in shown.parts]

    def update(self, batches: Sequence[AskedBatch], stop: bool = False) -> tuple[dict[str, float | Tensor], bool]:
        """One step on this process's micro-batches.

        Returns:
            Values for the log, and whether any process was asked to stop.
        Raises:
            InputError: loss or gradient are no number. The weights are those of the step before then.
        """
        engine, part = self.engine, sum(len(batch) for batch in batches)
        total = torch.zeros((), device=engine.device)
        for i, batch in enumerate(batches):
            with engine.accumulating() if i < len(batches) - 1 else nullcontext():
                total += self._forward_backward(batch, part, i)
        norm = engine.clip(list(self.trained.values()), self.config.optim.clip_norm)
        bad = sum(len(batch.bad) for batch in batches)
        cut = sum(batch.laid.cut for batch in batches)
        finite = total.isfinite() & norm.isfinite()
        stopping, all_bad, all_cut, diverged = engine.sum([float(stop), bad, cut, ~finite])
        if diverged:
            self.optimizer.zero_grad(set_to_none=True)
            raise InputError(
                f"step {self.step + 1}: the loss or its gradient is no number; lower optim.lr; the last checkpoint is "
                "as it was"
            )
        rate = self.schedule.get_last_lr()[-1]
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.counted.update(seen=self.config.run.batch_size, bad=int(all_bad), cut=int(all_cut))
        return {"loss": total, "grad_norm": norm, "lr": rate}, stopping > 0

    def _forward_backward(self, batch: AskedBatch, part: int, number: int) -> Tensor:
        if self.dropout:
            key = (self.config.run.seed, self.step, self.engine.rank, number, 7)
            self.dropout.begin(int(np.random.SeedSequence(key).generate_state(1)[0]))
        parts, laid = self.parts(batch.shown), batch.laid.to(self.engine.device)
        with self.engine.autocast():
            losses, _ = self.model(parts, laid, self.config.objective.label_smoothing)
        loss = (losses[:, 0] * batch.weights.to(losses.device)).sum() / part
        self.engine.backward(loss)
        return loss.detach()

    def _resume(self) -> None:
        """Load the newest whole checkpoint, if there is one."""
        found = newest_whole(self.out / "checkpoints")
        if found is None:
            return
        _check_same(found.state["config"], to_dict(self.config), str(self.out))
        if found.state["about"] != self._about():
            raise InputError(f"{self.out}: was trained on other examples or with other eyes; give another run.out")
        self.engine.load_encoder_state({**self.engine.encoder_state(), **found.tensors["vlm"]})
        self.engine.load_optimizer_state(unflatten_optimizer(found.tensors["optimizer"], found.state["optimizer"]))
        self.schedule.load_state_dict({**found.state["schedule"], "lr_lambdas": [None] * len(self.schedule.lr_lambdas)})
        self.step, self.counted, self.resumed = found.state["step"], Counter(found.state["counted"]), found.path
        for path, line in found.damaged.items():
            moved = set_aside(path).name if self.engine.main else path.name
            self.notes.append(f"{line}; it is kept as {moved}, and the one before is used")

    def _about(self) -> dict[str, Any]:
        return {"examples": len(self.examples), "features": self.vlm.features.key()}

    def save(self) -> None:
        """Write a checkpoint of this very moment, unless it is written. All processes must call it together."""
        if self.saved == self.step:
            return
        state, whole = self.engine.optimizer_state(), self.engine.encoder_state()
        problem = ""
        if self.engine.main:
            optimizer, plain = flatten_optimizer(state)
            schedule = {key: value for key, value in self.schedule.state_dict().items() if key != "lr_lambdas"}
            kept = {
                "config": to_dict(self.config), "about": self._about(), "optimizer": plain, "schedule": schedule,
                "counted": dict(self.counted),
            }  # fmt: skip
            tensors = {"vlm": {name: whole[name] for name in self.trained}, "optimizer": optimizer}
            try:
                with writing(self.out / "checkpoints"):
                    save_checkpoint(self.out / "checkpoints", self.step, tensors, kept, self.config.run.keep)
            except InputError as error:
                problem = str(error)
        if problem := self.engine.gather(problem)[0]:
            raise InputError(problem)
        self.saved = self.step

    def export(self) -> Path:
        """Write the model as a folder of its own, low-rank updates merged. The run is over then."""
        folder = self.out / "vlm"
        whole = self.engine.encoder_state()
        if self.engine.main:
            if self.engine.sharded:
                fresh = self._make_vlm()
                fresh.load_state_dict(whole, strict=False)
                self.vlm = fresh
            elif self.vlm.is_paligemma:
                self.vlm.lm.model.vision_tower = self.tower
            if self.config.model.train == "lora":
                merge_lora(self.vlm.lm)
            training = {"steps": self.step, "examples": self.counted["seen"], "config": to_dict(self.config)}
            with writing(folder):
                save_vlm(self.vlm.eval(), folder, training)
        self.engine.wait()
        return folder


def make_engine(run: TransferRun) -> Engine:
    """The processes of a run; see `Engine` for what raises."""
    return Engine(
        RunConfig(
            device=run.device, parallel=run.parallel, mixed_precision=run.mixed_precision, tf32=run.tf32,
            threads=run.threads,
        )
    )  # fmt: skip


def read_training(config: TransferConfig) -> list[Example]:
    """Every example of the training files, as often as an epoch has it.

    Raises:
        InputError: a file cannot be read, or an example has nothing to learn.
    """
    examples: list[Example] = []
    for one in config.data.files:
        found = read_examples(Path(one.path), Path(one.root) if one.root else None)
        if silent := [example.id for example in found if not example.suffixes]:
            raise InputError(f"{one.path}: example {silent[0]}: no suffix to learn; give one, or leave the line out")
        examples += found * one.times
    return examples


def read_validation(config: TransferConfig) -> list[Example]:
    """The examples that are looked at in training; none where no file is named."""
    data = config.data
    return read_examples(Path(data.validation), Path(data.root) if data.root else None) if data.validation else []


def choose_learning(vlm: VisualLanguageModel, config: TransferConfig) -> None:
    """Let learn what the configuration says; the eyes never do.

    Raises:
        InputError: that is nothing.
    """
    model = config.model
    vlm.requires_grad_(False)
    if model.train == "lora":
        add_lora(vlm.lm, model.lora_rank, model.lora_alpha)
    elif model.train == "lm":
        text = [vlm.lm.model.language_model, vlm.lm.lm_head] if vlm.is_paligemma else [vlm.lm]
        for module in text:
            module.requires_grad_(True)
    vlm.projectors.requires_grad_(True)
    if model.train_projector:
        for parameter in vlm.projector_parameters:
            parameter.requires_grad_(True)
    if not any(p.requires_grad for p in vlm.parameters()):
        raise InputError('config: model.train = "projector" and model.train_projector = false: nothing learns')


def make_transfer_optimizer(vlm: VisualLanguageModel, config: TransferConfig) -> torch.optim.Optimizer:
    """AdamW in groups: projectors and all else, each with the weights that decay and those that do not."""
    optim = config.optim
    projectors = {id(p) for p in vlm.projector_parameters}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in vlm.parameters():
        if parameter.requires_grad:
            of_projector = id(parameter) in projectors
            decays = parameter.ndim >= 2 and (of_projector or optim.decay == "matrices")
            groups.setdefault((of_projector, decays), []).append(parameter)
    made = []
    for (of_projector, decays), parameters in groups.items():
        lr = (optim.projector_lr or optim.lr) if of_projector else optim.lr
        made.append({"params": parameters, "lr": lr, "weight_decay": optim.weight_decay / lr if decays else 0.0})
    return torch.optim.AdamW(made, betas=(0.9, optim.b2))


def _check_same(before: dict[str, Any], now: dict[str, Any], where: str) -> None:
    now = json.loads(json.dumps(now))
    for section, values in now.items():
        for key, value in values.items():
            name, was = f"{section}.{key}", before.get(section, {}).get(key)
            if name not in FREE and was != value:
                raise InputError(
                    f"{where}: holds a run with {name} = {was!r}, not {value!r}; give another run.out, or the same "
                    "settings to go on"
                )
