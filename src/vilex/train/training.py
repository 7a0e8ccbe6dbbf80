"""A run's state: everything that trains, and everything needed to go on where it stopped."""

import copy
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from vilex.data import Batch, open_sources
from vilex.data.streamed import Place
from vilex.encoder import ViLexEncoder
from vilex.encoder.dediffusion import WordPooler
from vilex.errors import InputError
from vilex.hub.folder import resolve
from vilex.hub.loading import quiet_loading
from vilex.t2i import load_t2i, speaking
from vilex.train.checkpoint import (
    flatten_optimizer,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
    unflatten_optimizer,
)
from vilex.train.config import TrainConfig
from vilex.train.engine import Engine, shard_like, whole
from vilex.train.loss_bands import loss_by_kept, loss_by_noise
from vilex.train.models import checkpoint_activations, new_encoder
from vilex.train.objective import DenoisingObjective
from vilex.train.optim import choose_trained, make_optimizer, make_schedule
from vilex.train.toml import to_dict

# Settings that a run may change when it goes on; all others would make it another run.
FREE = {"run.out", "run.device", "run.threads", "run.log_every", "run.wandb", "run.sample_every", "run.sample_images"}
FREE |= {"run.save_every", "run.keep", "run.micro_batch", "run.parallel", "run.gradient_checkpointing"}
FREE |= {"run.compile", "data.workers", "data.max_bad_share", "data.validation"}


class Training:
    """A run: everything that trains, and everything needed to go on exactly where it stopped."""

    def __init__(self, config: TrainConfig):
        config.check()
        self.config, self.out = config, Path(config.run.out)
        self.engine = Engine(config.run)
        torch.manual_seed(config.run.seed)
        base = resolve(config.model.base)
        self.t2i = load_t2i(base, getattr(torch, config.model.frozen_dtype)).to(self.engine.device)
        self.bare = new_encoder(config, self.t2i, base)
        norms = [lookup.float().norm(dim=1).mean().item() for lookup in self.t2i.lookups]
        self.word_norm = sum(norm**2 for norm in norms) ** 0.5
        if config.run.gradient_checkpointing:
            checkpoint_activations(self.t2i, self.bare)
        choose_trained(self.bare, config.optim)
        self.sources = open_sources(config.data)
        self.encoder = self.engine.prepare(self.bare)
        self.optimizer = self.engine.prepare_optimizer(make_optimizer(self.bare, config.optim))
        self.schedule = make_schedule(self.engine.optimizer, config.optim, config.run.steps)
        words = isinstance(self.bare.pooler, WordPooler)
        self.objective = DenoisingObjective(speaking(self.bare, self.t2i), config.objective, config.run.seed, words)
        self.parameters = [p for p in self.bare.parameters() if p.requires_grad]
        self.ema = EMAModel(self.parameters, decay=config.optim.ema_decay, use_ema_warmup=True, power=0.75)
        self.step, self.places, self.counted = 0, {}, Counter(seen=0, bad=0)
        self.resume()
        self.counted_before = self.counted.copy()
        if config.run.compile:
            self.t2i.network.compile()
            self.encoder.compile()

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
        self.engine.load_encoder_state(tensors["encoder"])
        self.engine.load_optimizer_state(unflatten_optimizer(tensors.get("optimizer", {}), state["optimizer"]))
        self.engine.load_scaler_state(state["scaler"])
        self.schedule.load_state_dict({**state["schedule"], "lr_lambdas": [None] * len(self.schedule.lr_lambdas)})
        self.ema.shadow_params = [shard_like(tensors["ema"][str(i)], p) for i, p in enumerate(self.parameters)]
        self.ema.optimization_step = state["ema_step"]
        self.counted, self.step = Counter(state["counted"]), state["step"]
        readers = max(1, self.config.data.workers)
        if state["places"] and state["readers"] != [self.engine.world, readers]:
            before = " processes x ".join(map(str, state["readers"]))
            raise InputError(
                f"{self.out}: its streams were read by {before} workers, now by {self.engine.world} x {readers}; "
                "go on with as many"
            )
        own = [item for item in state["places"] if item[1] // readers == self.engine.rank]
        self.places = {(source, lane): Place(**place) for source, lane, place in own}

    def save(self) -> None:
        """Write a checkpoint of this very moment. All processes must call it together."""
        optimizer_state, encoder_state = self.engine.optimizer_state(), self.engine.encoder_state()
        average = {str(i): whole(value) for i, value in enumerate(self.ema.shadow_params)}
        places = [item for part in self.engine.gather(self.places) for item in part.items()]
        if self.engine.main:
            self._write(optimizer_state, {"encoder": encoder_state, "ema": average}, places)
        self.engine.wait()

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
            "base_sha256": self.bare.config.base_sha256,
        }
        tensors = {**tensors, "optimizer": optimizer}
        save_checkpoint(self.out / "checkpoints", self.step, tensors, state, self.config.run.keep)

    def update(self, batch: Batch) -> dict[str, Any]:
        """One step of the optimiser on this process's part of a batch; returns values for the log."""
        run, engine = self.config.run, self.engine
        if self.objective.words:
            self.bare.pooler.anneal(self.step / run.steps)
        parts = list(batch.split(run.micro_batch or len(batch)))
        total, all_seen = 0.0, []
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            if last:
                loss, seen = self._forward_backward(part, len(part) / len(batch))
            else:
                with engine.accumulating():
                    loss, seen = self._forward_backward(part, len(part) / len(batch))
            total += loss
            all_seen.append(seen)
        norm = engine.clip(self.parameters, self.config.optim.clip_norm)
        rate = self.schedule.get_last_lr()[-1]
        self.optimizer.step()
        if not engine.skipped:
            self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.config.optim.ema_decay:
            self.ema.step(self.parameters)
        self.step += 1
        self.places.update(batch.places)
        seen = {name: torch.cat([part[name] for part in all_seen]) for name in ("loss", "t", "keep", "token_norm")}
        values = {"loss": total, "grad_norm": norm, "pooler_lr": rate}
        if len(seen["loss"]):
            values |= {
                "token_norm": seen["token_norm"].mean().item() / self.word_norm,
                "kept_tokens": seen["keep"].float().mean().item(),
                **loss_by_noise(seen["loss"], seen["t"], self.objective.loss.levels),
                **loss_by_kept(seen["loss"], seen["keep"]),
            }
        return values

    def _forward_backward(self, part: Batch, share: float) -> tuple[float, dict[str, Tensor]]:
        part.pixels, part.pixel_values = part.pixels.to(self.engine.device), part.pixel_values.to(self.engine.device)
        with self.engine.autocast():
            loss, seen = self.objective(self.encoder, self.config.model.num_tokens, part)
        loss = loss * share
        self.engine.backward(loss)
        seen["token_norm"] = seen.pop("tokens").float().norm(dim=-1).mean(1)
        return loss.item(), seen

    def averaged_encoder(self) -> ViLexEncoder | None:
        """A copy of the whole encoder with its averaged weights, for the process that writes; None for others.

        All processes must call it together.
        """
        state = dict(self.engine.encoder_state())
        if self.config.optim.ema_decay:
            names = [name for name, p in self.bare.named_parameters() if p.requires_grad]
            state |= {name: whole(value) for name, value in zip(names, self.ema.shadow_params, strict=True)}
        if not self.engine.main:
            return None
        encoder = ViLexEncoder(copy.deepcopy(self.bare.config)).to(self.engine.device)
        encoder.load_state_dict(state)
        return encoder.eval()

    def export(self) -> Path:
        """Write the (averaged) encoder as a model folder: config.json and model.safetensors."""
        folder, encoder = self.out / "encoder", self.averaged_encoder()
        if encoder:
            encoder.config.training = {
                "steps": self.step,
                "images": self.step * self.config.run.batch_size,
                "config": to_dict(self.config),
            }
            with quiet_loading():
                encoder.save_pretrained(folder, safe_serialization=True)
        self.engine.wait()
        return folder


def _refuse_other_settings(before: dict[str, Any], now: dict[str, Any], out: Path) -> None:
    for section, values in now.items():
        for key, value in values.items():
            name = f"{section}.{key}"
            if name not in FREE and before.get(section, {}).get(key) != value:
                raise InputError(
                    f"{out}: holds a run with {name} = {before.get(section, {}).get(key)!r}, not {value!r}; "
                    "give another run.out, or the same settings to resume"
                )
