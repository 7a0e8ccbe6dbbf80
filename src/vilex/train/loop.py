"""The training loop: batch, step, log, look, save."""

import math
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vilex.data import Batch, make_loader
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.plan.plan import advise
from vilex.train.config import TrainConfig
from vilex.train.previews import Judge
from vilex.train.report import Reporter
from vilex.train.signals import StopSignal
from vilex.train.training import Training

BAD_GRACE = 100  # images seen before the share of broken ones is judged


def train(config: TrainConfig, quiet: bool = False) -> Path:
    """Train, or go on training, to `run.steps`; returns the folder of the finished encoder.

    SIGINT and SIGTERM end the run after the step in hand, with a checkpoint; the same command goes on.
    """
    training = Training(config)
    run, engine = config.run, training.engine
    loader = make_loader(
        training.sources,
        config.data,
        batch_size=run.batch_size,
        seed=run.seed,
        start=training.step,
        steps=run.steps,
        image_size=training.t2i.image_size,
        preprocess=_on_cpu(training.bare),
        rank=engine.rank,
        world=engine.world,
        places=training.places,
    )
    judge = Judge(config, training.t2i) if run.sample_every and engine.main else None
    with StopSignal() as stop, Reporter(training, quiet) as report:
        for batch in loader:
            values = _update(training, batch)
            signals = (stop.asked, not math.isfinite(values["loss"]), len(batch.bad))
            stopping, diverged, bad = engine.sum([float(signal) for signal in signals])
            if diverged:
                raise InputError(
                    f"step {training.step}: the loss is no number; lower optim.pooler_lr or raise warmup_steps"
                )
            report.step(values, batch, int(bad))
            last = training.step == run.steps
            if run.sample_every and (training.step % run.sample_every == 0 or last):
                encoder = training.averaged_encoder()
                if judge:
                    report.look(*judge.look(encoder))
            if training.step % run.log_every == 0 or last:
                report.write()
            if training.step % run.save_every == 0 or last or stopping:
                training.save()
            if stopping:
                raise InputError(f"stopped at step {training.step} of {run.steps}; the same command goes on from there")
            _refuse_bad_data(training, report.examples)
    return training.export()


def _update(training: Training, batch: Batch) -> dict[str, Any]:
    """A step; where memory runs out, an InputError that says what would help."""
    try:
        return training.update(batch)
    except RuntimeError as error:  # torch.OutOfMemoryError is one; CPUs only say so
        if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        short = f"step {training.step + 1}: {advise(training.config, training.engine.world)}"
    raise InputError(short)


def _refuse_bad_data(training: Training, examples: list[str]) -> None:
    """Too many broken images since this process began end it, with a checkpoint."""
    seen, bad = (training.counted[name] - training.counted_before[name] for name in ("seen", "bad"))
    limit = training.config.data.max_bad_share
    if bad > limit * max(seen, BAD_GRACE):
        training.save()
        raise InputError(
            f"step {training.step}: {bad} of {seen} images are broken, more than data.max_bad_share = {limit}; "
            f"mend or remove them, and go on with the same command; the last ones: {'; '.join(examples)}"
        )


def _on_cpu(encoder: ViLexEncoder):
    """Data is prepared on the CPU whatever device the encoder is on."""

    def prepare(images: list[Image.Image]) -> Tensor:
        return encoder.preprocess(images).cpu().float()

    return prepare
