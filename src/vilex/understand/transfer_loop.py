"""The loop of a transfer: batch, step, log, a quick look at the validation file, checkpoint."""

import json
from collections.abc import Collection
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vilex.errors import InputError
from vilex.train.log import Log
from vilex.train.run_folder import run_folder, writing
from vilex.train.signals import StopSignal
from vilex.train.toml import to_dict
from vilex.train.trackers import TensorBoard, Tracker, WeightsAndBiases
from vilex.understand.answers import answer_all, mean_loss, share_of_matches, write_answers
from vilex.understand.config import TransferConfig
from vilex.understand.samples import AskedBatch, AskedData, make_asked_loader
from vilex.understand.transfer import Transfer, make_engine

BAD_GRACE = 100  # examples seen before the share of broken ones is judged
SHOWN = ("loss", "grad_norm", "lr", "images_per_second")  # of a line in the terminal


def transfer(config: TransferConfig, quiet: bool = False, accept: Collection[str] = ()) -> Path:
    """Train, or go on training, to the end; returns the folder of the finished model.

    SIGINT and SIGTERM end the run after the step in hand, with a checkpoint; the same command goes on.

    Args:
        accept: names of settings, as `optim.lr`, that may differ from those the run began with.
    Raises:
        InputError: settings that cannot work, a run that was asked to stop or diverged, data that are too broken,
            a folder that cannot be written to.
    """
    config.check()
    engine = make_engine(config.run)
    with run_folder(Path(config.run.out), engine.main):
        run = Transfer(config, engine, accept)
        with StopSignal() as stop, _Report(run, quiet) as report:
            _to_the_end(run, stop, report)
        return run.export()


def _to_the_end(run: Transfer, stop: StopSignal, report: "_Report") -> None:
    config, engine = run.config.run, run.engine
    data = AskedData(run.examples, run.gallery, run.vlm.layout, config.seed, config.micro_batch, run.rows, run.vary)
    batches = iter(
        make_asked_loader(
            data,
            batch_size=config.batch_size,
            start=run.step,
            steps=run.steps,
            workers=run.config.data.workers,
            rank=engine.rank,
            world=engine.world,
        )
    )
    try:
        for batch in batches:
            values, stopping = run.update(batch, stop.asked)
            report.step(values, batch)
            last = run.step == run.steps
            if config.look_every and (run.step % config.look_every == 0 or last):
                report.look()
            if run.step % config.log_every == 0 or last:
                report.write()
            if run.step % config.save_every == 0 or last or stopping:
                run.save()
            if stopping and not last:
                raise InputError(f"stopped at step {run.step} of {run.steps}; the same command goes on from there")
            _refuse_bad_data(run, report.examples)
    finally:
        del batches  # ends the data workers now


def _refuse_bad_data(run: Transfer, examples: list[str]) -> None:
    seen, bad, limit = run.counted["seen"], run.counted["bad"], run.config.data.max_bad_share
    if bad > limit * max(seen, BAD_GRACE):
        run.save()
        raise InputError(
            f"step {run.step}: {bad} of {seen} pictures are broken, more than data.max_bad_share = {limit}; mend or "
            f"remove them, and go on with the same command; the last ones: {'; '.join(examples)}"
        )


class _Report:
    """Log files and what the terminal shows; the first process alone writes."""

    def __init__(self, run: Transfer, quiet: bool):
        self.run, self.engine = run, run.engine
        self.examples: list[str] = []
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet or not run.engine.main)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        shown = self.console.is_terminal and not self.console.quiet
        self.progress = Progress(*columns, console=self.console, disable=not shown)

    def __enter__(self) -> "_Report":
        run, config = self.run, self.run.config
        trackers: list[Tracker] = []
        if self.engine.main:
            with writing(run.out):
                (run.out / "config.json").write_text(json.dumps(to_dict(config), indent=2))
                trackers.append(TensorBoard(run.out, run.step))
                if config.run.wandb:
                    trackers.append(WeightsAndBiases(config.run.wandb, run.out, to_dict(config)))
        self.log = Log(run.out, run.step, write=self.engine.main, trackers=trackers)
        begins = f"goes on from step {run.step} of {run.steps} ({run.resumed})" if run.resumed else "new"
        packed = f" of {len(run.rows)} images" if config.data.pack else ""
        learning = sum(p.numel() for p in run.trained.values()) / 1e6
        self._say(
            f"{len(run.examples)} examples{packed} | "
            f"{run.vlm.features.kind}: {run.vlm.features.count} vectors an image | {learning:.2f} M learn | "
            f"{run.steps} steps of {config.run.batch_size} | {run.out}: {begins}"
        )
        for note in run.notes:
            self._say(f"note: {note}")
        self.progress.start()
        self.task = self.progress.add_task("training", total=run.steps, completed=run.step)
        return self

    def step(self, values: dict[str, float | torch.Tensor], batches: list[AskedBatch]) -> None:
        """A step's values, and what was broken in it."""
        bad = [line for batch in batches for line in batch.bad]
        self.log.note(self.run.step, bad)
        self.examples = [*bad, *self.examples][:3]
        self.log.add(values, self.run.config.run.batch_size)
        self.progress.update(self.task, completed=self.run.step)

    def look(self) -> None:
        """Loss and answers on the first validation examples, to the log and to `looks/`."""
        run = self.run
        if not run.looked_at or not self.engine.main or self.engine.sharded:
            return
        run.vlm.eval()
        refused: list[str] = []
        decode = run.config.decode
        answers = answer_all(run.vlm, run.looked_at, run.gallery, decode, decode.batch_size, refused)
        loss = mean_loss(run.vlm, run.looked_at, run.gallery, decode.batch_size)
        run.vlm.train()
        with writing(run.out / "looks"):
            write_answers(run.out / "looks" / f"step-{run.step:07d}.jsonl", answers)
        values = {"look_match": share_of_matches(answers)} | ({"look_loss": loss} if loss is not None else {})
        self.log.add(values, 0)

    def write(self) -> None:
        """A line of means, to all that keep or show them."""
        counted = {"skipped": float(self.run.counted["bad"]), "cut": float(self.run.counted["cut"])}
        self.log.add(counted, 0)
        row = self.log.write(self.run.step, self.engine.gather(self.log.sums()))
        self.progress.update(self.task, description=f"loss {row['loss']:.4f}")
        if not self.console.is_terminal:
            values = "  ".join(f"{name} {row[name]:.4g}" for name in (*SHOWN, "look_loss", "look_match") if name in row)
            self._say(f"step {self.run.step}/{self.run.steps}  {values}")

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False)

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        self.log.close()
