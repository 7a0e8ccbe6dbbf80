"""What a run says while it trains: log files, trackers, a progress bar or lines."""

import json
from contextlib import suppress

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vilex.data import Batch
from vilex.train.log import Log
from vilex.train.opening import opening
from vilex.train.run_folder import writing
from vilex.train.step import Step
from vilex.train.toml import to_dict
from vilex.train.trackers import TensorBoard, Tracker, WeightsAndBiases
from vilex.train.training import Training

SHOWN = ("loss", "grad_norm", "pooler_lr", "images_per_second")  # of a line in the terminal


class Reporter:
    """Log files, what the terminal shows, and the count of broken images; the first process alone writes.

    A terminal gets a progress bar; what is no terminal, as a scheduler's log, a line every `run.log_every`.
    """

    def __init__(self, training: Training, quiet: bool):
        self.training, self.engine = training, training.engine
        self.examples: list[str] = []
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet or not self.engine.main)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        shown = self.console.is_terminal and not self.console.quiet
        self.progress = Progress(*columns, console=self.console, disable=not shown)

    def __enter__(self) -> "Reporter":
        training, config = self.training, self.training.config
        out, trackers = training.out, list[Tracker]()
        if self.engine.main:
            with writing(out):
                (out / "config.json").write_text(json.dumps(to_dict(config), indent=2))
                trackers.append(TensorBoard(out, training.step))
                if config.run.wandb:
                    trackers.append(WeightsAndBiases(config.run.wandb, out, to_dict(config)))
        self.log = Log(out, training.step, write=self.engine.main, trackers=trackers)
        self._say(opening(config, training.sources, self.engine.world, training.step, training.resumed))
        for note in training.notes:
            self._say(f"note: {note}")
        self.progress.start()
        self.task = self.progress.add_task("training", total=config.run.steps, completed=training.step)
        return self

    def step(self, step: Step, batch: Batch) -> None:
        """A step's values, kept as they are until they are written."""
        self.training.counted.update(seen=self.training.config.run.batch_size, bad=step.broken)
        if step.broken:
            lines = [line for part in self.engine.gather(batch.bad) for line in part]
            self.log.note(self.training.step, lines)
            self.examples = [*lines, *self.examples][:3]
        self.log.add(step.values, self.training.config.run.batch_size)
        self.progress.update(self.task, completed=self.training.step)

    def previews(self, picture: Image.Image, scores: dict[str, float]) -> None:
        """A grid of re-created pictures, and how close they come."""
        self.log.picture(self.training.step, picture)
        self.log.add(scores, 0)

    def write(self) -> None:
        """A line of means, to all that keep or show them."""
        self.log.add({"skipped": float(self.training.counted["bad"])}, 0)
        step, row = self.training.step, self.log.write(self.training.step, self.engine.gather(self.log.sums()))
        self.progress.update(self.task, description=f"loss {row['loss']:.4f}")
        if not self.console.is_terminal:
            values = "  ".join(f"{name} {row[name]:.4g}" for name in SHOWN if name in row)
            self._say(f"step {step}/{self.training.config.run.steps}  {values}")

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False)

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        with suppress(OSError):  # a full disk has been said by then
            self.log.close()
