"""The training loop: batch, step, log, previews, checkpoint."""

from collections.abc import Collection
from pathlib import Path

import torch

from vilex.data import Batch, make_loader
from vilex.data.counting import first_sizes
from vilex.errors import InputError
from vilex.pictures.fit import much_cut, warn_of_cuts
from vilex.plan.plan import advise
from vilex.train.config import TrainConfig
from vilex.train.engine import Engine
from vilex.train.previews import Previews
from vilex.train.report import Reporter
from vilex.train.run_folder import run_folder
from vilex.train.signals import StopSignal
from vilex.train.sizes import training_sizes
from vilex.train.step import Step
from vilex.train.training import Training

BAD_GRACE = 100  # images seen before the share of broken ones is judged


def train(config: TrainConfig, quiet: bool = False, accept: Collection[str] = ()) -> Path:
    """Train, or go on training, to `run.steps`; returns the folder of the finished encoder.

    SIGINT and SIGTERM end the run after the step in hand, with a checkpoint; the same command goes on. A second
    SIGINT ends it at once.

    Args:
        accept: names of settings, as `data.path`, that may differ from those the run began with.
    Raises:
        InputError: settings that cannot work, a run that was asked to stop or diverged, data that are too broken,
            a folder that cannot be written to.
    """
    config.check()
    engine = Engine(config.run)
    with run_folder(Path(config.run.out), engine.main):
        training = Training(config, engine, accept)
        with StopSignal() as stop, Reporter(training, quiet) as report:
            _to_the_end(training, stop, report)
        return training.export()


def _to_the_end(training: Training, stop: StopSignal, report: Reporter) -> None:
    config, engine = training.config, training.engine
    run = config.run
    fit = training.bare.config.fit
    for source in training.sources if engine.main else ():
        sizes = first_sizes(source)
        warn_of_cuts([name for name, size in sizes if much_cut(size, fit)], len(sizes))
    previews = Previews(config, training.t2i, training.first_tower, fit) if training.first_tower is not None else None
    batches = iter(
        make_loader(
            training.sources,
            config.data,
            batch_size=run.batch_size,
            seed=run.seed,
            start=training.step,
            steps=run.steps,
            image_size=training.t2i.image_size,
            preprocess=training.bare.preprocessing,
            rank=engine.rank,
            world=engine.world,
            places=training.places,
            pin_memory=engine.device.type == "cuda",
            fit=fit,
            sizes=training_sizes(config.data, training.t2i),
        )
    )
    try:
        for batch in batches:
            step = _update(training, batch, stop.asked)
            report.step(step, batch)
            last = training.step == run.steps
            if run.sample_every and (training.step % run.sample_every == 0 or last):
                encoder = training.averaged_encoder()
                if previews and encoder:
                    report.previews(*previews.draw(encoder))
            if training.step % run.log_every == 0 or last:
                report.write()
            if training.step % run.save_every == 0 or last or step.stopping:
                training.save()
            if step.stopping and not last:
                raise InputError(f"stopped at step {training.step} of {run.steps}; the same command goes on from there")
            _refuse_bad_data(training, report.examples)
    finally:
        del batches  # ends the data workers now, whoever still holds this frame


def _update(training: Training, batch: Batch, stop: bool) -> Step:
    """A step; where memory runs out, an InputError that says what would help."""
    try:
        return training.update(batch, stop)
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
