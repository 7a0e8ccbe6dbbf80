"""A run's state: everything that trains, and everything needed to go on where it stopped."""

import copy
import shutil
from collections import Counter
from collections.abc import Collection, Sized
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vilex.data import Batch, open_sources
from vilex.data.indexed import refuse_among
from vilex.data.loader import LaneKey
from vilex.data.streamed import Place
from vilex.encoder import ViLexEncoder
from vilex.encoder.dediffusion import WordPooler
from vilex.errors import InputError
from vilex.hub.folder import resolve_base
from vilex.hub.loading import quiet_loading
from vilex.t2i import attach_adapter, load_t2i
from vilex.t2i.attention import suit_attention
from vilex.train.average import WeightAverage
from vilex.train.checkpoint import flatten_optimizer, newest_whole, save_checkpoint, set_aside, unflatten_optimizer
from vilex.train.config import TrainConfig
from vilex.train.consistency import settle
from vilex.train.engine import Engine, gathered, learning, shard_like
from vilex.train.loss_bands import of_images
from vilex.train.models import checkpoint_activations, new_encoder
from vilex.train.objective import DenoisingObjective
from vilex.train.optim import choose_trained, make_optimizer, make_schedule
from vilex.train.resume import CHANGES, READERS, RULES, check_state, other_counts
from vilex.train.run_folder import writing
from vilex.train.step import Step
from vilex.train.toml import to_dict


class Training:
    """A run: everything that trains, and everything needed to go on exactly where it stopped.

    Args:
        engine: the processes; made from the configuration if not given.
        accept: names of settings that may differ from those of the run that goes on; see `vilex.train.resume`.

    Attributes:
        step: how many steps are done. resumed: the checkpoint it goes on from, if any.
        notes: lines on what is unusual about how it goes on.
    """

    def __init__(self, config: TrainConfig, engine: Engine | None = None, accept: Collection[str] = ()):
        config = settle(config)
        self.config, self.out, self.accept = config, Path(config.run.out), frozenset(accept)
        self.engine = engine or Engine(config.run)
        torch.manual_seed(config.run.seed)
        base = resolve_base(config.model.base)
        self.t2i = load_t2i(base, getattr(torch, config.model.frozen_dtype), config.model.quantize or None)
        self.t2i.to(self.engine.device)
        suit_attention(self.t2i, self.engine.device.type)
        self.bare = new_encoder(config, self.t2i, base)
        looks = config.run.sample_every and self.engine.main
        self.first_tower = copy.deepcopy(self.bare.tower).requires_grad_(False).eval() if looks else None
        norms = [lookup.float().norm(dim=1).mean().item() for lookup in self.t2i.lookups]
        self.word_norm = sum(norm**2 for norm in norms) ** 0.5
        if config.run.gradient_checkpointing:
            checkpoint_activations(self.t2i, self.bare)
        choose_trained(self.bare, config.optim)
        self.sources = open_sources(config.data)
        refuse_among(self.sources, self.out, "run.out")
        self.encoder = self.engine.prepare(self.bare)
        made = make_optimizer(self.bare, config.optim, self.engine.precision or torch.float32)
        self.optimizer = self.engine.prepare_optimizer(made)
        self.schedule = make_schedule(self.engine.optimizer, config.optim, config.run.steps)
        words = isinstance(self.bare.pooler, WordPooler)
        self.objective = DenoisingObjective(
            attach_adapter(self.bare, self.t2i), config.objective, config.run.seed, words
        )
        self.parameters = [p for p in self.bare.parameters() if p.requires_grad]
        tower = learning(self.bare.tower)
        alone = self.alone = config.optim.tower_frozen_steps
        self.ema = WeightAverage(tower, self.parameters[len(tower) :], config.optim.ema_decay, alone)
        self.step, self.counted = 0, Counter(seen=0, bad=0)
        self.places: dict[LaneKey, Place] = {}
        self.resumed: Path | None = None
        self.notes: list[str] = []
        self.resume()
        self.saved, self.counted_before = self.step if self.resumed else -1, self.counted.copy()
        if config.run.compile:
            self.t2i.network.compile()
            self.encoder.compile()
        if self.alone:
            self._begin_stage()

    def _begin_stage(self) -> None:
        """Let the tower wait, or learn: no gradient goes through it in the first `optim.tower_frozen_steps`."""
        self.bare.tower_waits = self.step < self.alone
        self.encoder = self.engine.replicate(learning(self.bare.tower) if self.bare.tower_waits else [])
        if self.config.run.compile and self.encoder is not self.bare:
            self.encoder.compile()

    def resume(self) -> None:
        """Load the newest whole checkpoint below `run.out`, if there is one. All processes must call it together.

        Raises:
            InputError: it belongs to a run with other settings or on other frozen weights, no checkpoint is whole,
                or processes see different ones.
        """
        found = newest_whole(self.out / "checkpoints")
        steps = self.engine.gather(found.state["step"] if found else 0)
        if len(set(steps)) > 1:
            raise InputError(
                f"{self.out}: the processes see different checkpoints there, at steps {', '.join(map(str, steps))}; "
                "run.out must be one folder that all of them share"
            )
        if found is None:
            return
        self.notes += RULES.check(found.state["config"], self.config, self.accept, str(self.out))
        check_state(found.state, self.config, self.bare.config.base_sha256)
        self.notes += other_counts(found.state.get("images", []), self.images, self.config)
        self._load(found.tensors, found.state)
        self.resumed = found.path
        for path, line in found.damaged.items():
            moved = set_aside(path).name if self.engine.main else path.name
            self.notes.append(f"{line}; it is kept as {moved}, and the one before is used")

    def _load(self, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
        optimizer, own = self.engine.optimizer, ("initial_lr", "weight_decay")
        fresh = [{key: group[key] for key in own} for group in optimizer.param_groups]
        self.engine.load_encoder_state(tensors["encoder"])
        saved = unflatten_optimizer(tensors["optimizer"], state["optimizer"])
        fresh_parts = [p for name, p in self.bare.named_parameters() if p.requires_grad and name not in saved["state"]]
        self.engine.load_optimizer_state(saved, fresh_parts)
        self.engine.load_scaler_state(state["scaler"])
        rates, laws = self.schedule.base_lrs, self.schedule.lr_lambdas
        self.schedule.load_state_dict({**state["schedule"], "base_lrs": rates, "lr_lambdas": [None] * len(laws)})
        self.schedule._last_lr = [rate * law(self.schedule.last_epoch) for rate, law in zip(rates, laws, strict=True)]
        for group, values, rate in zip(optimizer.param_groups, fresh, self.schedule.get_last_lr(), strict=True):
            group.update(values, lr=rate)  # the configuration's, which may be accepted changes
        averages = [shard_like(tensors["ema"][str(i)], p) for i, p in enumerate(self.parameters)]
        self.ema.load(averages, state["ema_step"])
        self.counted, self.step = Counter(state["counted"]), state["step"]
        self.places = self._places(state)

    def _places(self, state: dict[str, Any]) -> dict[LaneKey, Place]:
        """Where this process's readers of streams go on."""
        readers = max(1, self.config.data.workers)
        own = range(self.engine.rank * readers, (self.engine.rank + 1) * readers)
        if not state["places"] or state["readers"] == [self.engine.world, readers]:
            return {(source, lane): Place(**place) for source, lane, place in state["places"] if lane in own}
        before = " processes x ".join(map(str, state["readers"]))
        if READERS not in self.accept:
            raise InputError(
                f"{self.out}: its streams were read by {before} workers, now by {self.engine.world} x {readers}; "
                f"go on with as many, or --accept {READERS} to leave the rest of this epoch and begin the next"
            )
        self.notes.append(f"streams were read by {before} workers: {CHANGES[READERS]}")
        epochs: Counter[int] = Counter()
        for source, _, place in state["places"]:
            epochs[source] = max(epochs[source], place["epoch"] + 1)
        return {(source, lane): Place(epoch) for source, epoch in epochs.items() for lane in own}

    @property
    def images(self) -> list[int | None]:
        """How many images each source has; None where only reading would tell."""
        return [len(source) if isinstance(source, Sized) else None for source in self.sources]

    def save(self) -> None:
        """Write a checkpoint of this very moment, unless it is written. All processes must call it together.

        Raises:
            InputError: a weight is no number, or the disk refuses. No checkpoint is harmed then.
        """
        if self.saved == self.step:
            return
        waits = learning(self.bare.tower) if self.alone and self.step <= self.alone else []
        optimizer_state, encoder_state = self.engine.optimizer_state(waits), self.engine.encoder_state()
        average = {str(i): gathered(value) for i, value in enumerate(self.ema.shadow_params)}
        places = [item for part in self.engine.gather(self.places) for item in part.items()]
        problem = ""
        if self.engine.main:
            try:
                with writing(self.out / "checkpoints"):
                    self._write(optimizer_state, {"encoder": encoder_state, "ema": average}, places)
            except InputError as error:
                problem = str(error)
        if problem := self.engine.gather(problem)[0]:
            raise InputError(problem)
        self.saved = self.step

    def _write(self, optimizer_state: dict[str, Any], tensors: dict[str, dict[str, Tensor]], places: list[Any]) -> None:
        """This moment, as the writing process has gathered it."""
        optimizer, plain = flatten_optimizer(optimizer_state)
        state = {
            "config": to_dict(self.config),
            "optimizer": plain,
            "scaler": self.engine.scaler_state(),
            "schedule": {key: value for key, value in self.schedule.state_dict().items() if key != "lr_lambdas"},
            "ema_step": self.ema.optimization_step,
            "places": [[source, lane, asdict(place)] for (source, lane), place in sorted(places)],
            "readers": [self.engine.world, max(1, self.config.data.workers)],
            "counted": dict(self.counted),
            "images": self.images,
            "base_sha256": self.bare.config.base_sha256,
        }
        tensors = {**tensors, "optimizer": optimizer}
        save_checkpoint(self.out / "checkpoints", self.step, tensors, state, self.config.run.keep)

    def update(self, batch: Batch, stop: bool = False) -> Step:
        """One step of the optimiser on this process's part of a batch.

        Args:
            stop: whether this process was asked to stop; the step is done all the same, by all processes.
        Raises:
            InputError: loss or gradient are no number. The weights are those of the step before then.
        """
        run, engine = self.config.run, self.engine
        if self.bare.tower_waits and self.step == self.alone:
            self._begin_stage()
        if isinstance(self.bare.pooler, WordPooler):
            self.bare.pooler.anneal(self.step / run.steps)
        parts = list(batch.split(run.micro_batch or len(batch)))
        total, seen = torch.zeros((), device=engine.device), []
        for i, part in enumerate(parts):
            with engine.accumulating() if i < len(parts) - 1 else nullcontext():
                loss, values = self._forward_backward(part, len(part) / len(batch))
            total += loss
            seen.append(values)
        norm = engine.clip(self.parameters, self.config.optim.clip_norm)
        finite = total.isfinite() & (norm.isfinite() | engine.scales)
        stopping, broken, diverged = engine.sum([float(stop), len(batch.bad), ~finite])
        if diverged:
            self.optimizer.zero_grad(set_to_none=True)
            raise InputError(
                f"step {self.step + 1}: the loss or its gradient is no number; lower optim.pooler_lr or raise "
                "warmup_steps; the last checkpoint is as it was"
            )
        rate = self.schedule.get_last_lr()[-1]
        self._step_optimizer()
        self.places.update(batch.places)
        joined = {name: torch.cat([values[name] for values in seen]) for name in ("loss", "t", "keep", "token_norm")}
        of_step = {
            "loss": total,
            "grad_norm": norm,
            "pooler_lr": rate,
            **of_images(joined, self.word_norm, self.objective.loss.levels),
        }
        return Step(of_step, stopping > 0, int(broken))

    def _step_optimizer(self) -> None:
        self.optimizer.step()
        if not self.engine.skipped:
            self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.config.optim.ema_decay:
            self.ema.step()
        self.step += 1

    def _forward_backward(self, part: Batch, share: float) -> tuple[Tensor, dict[str, Tensor]]:
        with self.engine.autocast():
            loss, seen = self.objective(self.encoder, self.config.model.num_tokens, part.to(self.engine.device))
        loss = loss * share
        self.engine.backward(loss)
        seen["token_norm"] = seen.pop("tokens").float().norm(dim=-1).mean(1)
        return loss.detach(), seen

    def averaged_encoder(self) -> ViLexEncoder | None:
        """A copy of the whole encoder with its averaged weights, for the process that writes; None for others.

        All processes must call it together.
        """
        state = dict(self.engine.encoder_state())
        if self.config.optim.ema_decay:
            names = [name for name, p in self.bare.named_parameters() if p.requires_grad]
            state |= {name: gathered(value) for name, value in zip(names, self.ema.shadow_params, strict=True)}
        if not self.engine.main:
            return None
        encoder = ViLexEncoder(copy.deepcopy(self.bare.config)).to(self.engine.device)
        encoder.load_state_dict(state)
        return encoder.eval()

    def export(self) -> Path:
        """Write the (averaged) encoder as a model folder: config.json and model.safetensors."""
        folder, encoder = self.out / "encoder", self.averaged_encoder()
        if encoder:
            aside = folder.with_name(f".{folder.name}.tmp")
            encoder.config.training = {
                "steps": self.step,
                "images": self.step * self.config.run.batch_size,
                "config": to_dict(self.config),
            }
            with quiet_loading(), writing(folder):
                shutil.rmtree(aside, ignore_errors=True)
                encoder.save_pretrained(aside, safe_serialization=True)
                folder.mkdir(exist_ok=True)
                for file in aside.iterdir():
                    file.replace(folder / file.name)
                aside.rmdir()
        self.engine.wait()
        return folder
