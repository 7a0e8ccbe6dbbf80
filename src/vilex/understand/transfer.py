"""A transfer's state: what learns, what it is asked, and everything needed to go on where it stopped."""

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch import Tensor

from vilex.errors import InputError
from vilex.train.checkpoint import flatten_optimizer, newest_whole, save_checkpoint, set_aside, unflatten_optimizer
from vilex.train.config import RunConfig
from vilex.train.engine import Engine
from vilex.train.run_folder import writing
from vilex.train.toml import to_dict
from vilex.understand.cache import FeatureCache
from vilex.understand.config import TransferConfig, TransferRun
from vilex.understand.examples import Example, read_examples
from vilex.understand.lora import merge_lora
from vilex.understand.residual_dropout import ResidualDropout
from vilex.understand.samples import AskedBatch, Gallery, Shown, Vary, pictures_of, rows_of
from vilex.understand.tasks.registry import find_task
from vilex.understand.transfer_features import fill_cache
from vilex.understand.transfer_learning import choose_learning, make_transfer_optimizer
from vilex.understand.transfer_resume import RULES, check_state
from vilex.understand.vlm import VisualLanguageModel
from vilex.understand.vlm_folder import make_vlm, save_vlm


class Transfer:
    """A run: everything that learns, and everything needed to go on exactly where it stopped.

    Args:
        engine: the processes; made from the configuration if not given.
        accept: names of settings that may differ from those of the run that goes on; see `transfer_resume`.

    Attributes:
        rows: places of the examples that share a row. vary: another way to ask each, if there is one.
        step: steps done. steps: of the run. resumed: the checkpoint it goes on from, if any.
        notes: lines on what is unusual. counted: examples seen, and broken ones among them.
    Raises:
        InputError: a model or a file cannot be read, or the run's folder holds one with other settings.
    """

    def __init__(self, config: TransferConfig, engine: Engine | None = None, accept: Collection[str] = ()):
        self.config, self.out, self.accept = config, Path(config.run.out), frozenset(accept)
        run = config.run
        self.engine = engine or make_engine(config.run)
        self.examples, self.vary = read_asked(config)
        self.rows = rows_of(self.examples, config.data.pack)
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
        self.steps = run.steps or max(1, round(run.epochs * len(self.rows) / run.batch_size))
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
        vlm = make_vlm(
            model.base, model.encoder, config.features, config.data.text_length, model.scratch, config.data.pack > 0
        )
        choose_learning(vlm, config)
        self.dropout = ResidualDropout(vlm.lm, config.objective.dropout) if config.objective.dropout else None
        if config.run.gradient_checkpointing:
            vlm.lm.gradient_checkpointing_enable({"use_reentrant": False})
        vlm.features.to(self.engine.device, getattr(torch, config.features.dtype))
        return vlm.train()

    def _cache(self) -> FeatureCache | None:
        """Features of all pictures, computed where they are not kept yet, each process its share."""
        rank, world = self.engine.rank, self.engine.world
        pictures = list(dict.fromkeys(pictures_of([*self.examples, *self.looked_at])))
        cache, refused = fill_cache(self.config.features, self.vlm.features, pictures[rank::world])
        self.notes += refused[:3]
        self.engine.wait()
        if cache is not None:
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
        engine, part = self.engine, float(sum(batch.questions for batch in batches))
        if self.config.data.pack:  # processes have as many rows, but not as many questions
            part = engine.sum([part])[0] / engine.world
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

    def _forward_backward(self, batch: AskedBatch, part: float, number: int) -> Tensor:
        if self.dropout:
            key = (self.config.run.seed, self.step, self.engine.rank, number, 7)
            self.dropout.begin(int(np.random.SeedSequence(key).generate_state(1)[0]))
        parts, laid = self.parts(batch.shown), batch.laid.to(self.engine.device)
        with self.engine.autocast():
            losses, there = self.model(parts, laid, self.config.objective.label_smoothing)
        loss = (losses * there * batch.weights.to(losses.device)[:, None]).sum() / part
        self.engine.backward(loss)
        return loss.detach()

    def _resume(self) -> None:
        """Load the newest whole checkpoint, if there is one."""
        found = newest_whole(self.out / "checkpoints")
        if found is None:
            return
        self.notes += RULES.check(found.state["config"], self.config, self.accept, str(self.out))
        check_state(found.state, self._about(), self.steps, self.accept, str(self.out))
        self._load(found.tensors, found.state)
        self.resumed = found.path
        for path, line in found.damaged.items():
            moved = set_aside(path).name if self.engine.main else path.name
            self.notes.append(f"{line}; it is kept as {moved}, and the one before is used")

    def _load(self, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
        own = ("initial_lr", "weight_decay", "betas")
        fresh = [{key: group[key] for key in own} for group in self.optimizer.param_groups]
        self.engine.load_encoder_state({**self.engine.encoder_state(), **tensors["vlm"]})
        self.engine.load_optimizer_state(unflatten_optimizer(tensors["optimizer"], state["optimizer"]))
        rates, laws = self.schedule.base_lrs, self.schedule.lr_lambdas
        self.schedule.load_state_dict({**state["schedule"], "base_lrs": rates, "lr_lambdas": [None] * len(laws)})
        self.schedule._last_lr = [rate * law(self.schedule.last_epoch) for rate, law in zip(rates, laws, strict=True)]
        for group, values, rate in zip(self.optimizer.param_groups, fresh, self.schedule.get_last_lr(), strict=True):
            group.update(values, lr=rate)  # the configuration's, which may be accepted changes
        self.step, self.counted = state["step"], Counter(state["counted"])

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
    """Every example of the training files, as often as an epoch has it; see `read_asked` for what raises."""
    return read_asked(config)[0]


def read_asked(config: TransferConfig) -> tuple[list[Example], list[Vary]]:
    """The same, and how each is asked anew.

    Raises:
        InputError: a file cannot be read, or an example has nothing to learn.
    """
    examples: list[Example] = []
    vary: list[Vary] = []
    for one in config.data.files:
        found = read_examples(Path(one.path), Path(one.root) if one.root else None)
        if silent := [example.id for example in found if not example.suffixes]:
            raise InputError(f"{one.path}: example {silent[0]}: no suffix to learn; give one, or leave the line out")
        examples += found * one.times
        vary += [find_task(one.task).vary if one.task else None] * len(found) * one.times
    return examples, vary


def read_validation(config: TransferConfig) -> list[Example]:
    """The examples that are looked at in training; none where no file is named."""
    data = config.data
    return read_examples(Path(data.validation), Path(data.root) if data.root else None) if data.validation else []
