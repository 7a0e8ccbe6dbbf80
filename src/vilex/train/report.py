"""What a run says while it trains: log files, boards, a progress bar."""

import json

from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vilex.data import Batch
from vilex.train.log import Log
from vilex.train.toml import to_dict
from vilex.train.trackers import TensorBoard, WeightsAndBiases
from vilex.train.training import Training


class Reporter:
    """Log files, progress bar and the count of broken images; the first process alone writes."""

    def __init__(self, training: Training, quiet: bool):
        self.training, self.engine, self.examples = training, training.engine, []
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, disable=quiet or not self.engine.main)

    def __enter__(self) -> "Reporter":
        out, config, boards = self.training.out, self.training.config, []
        if self.engine.main:
            out.mkdir(parents=True, exist_ok=True)
            (out / "config.json").write_text(json.dumps(to_dict(config), indent=2))
            boards.append(TensorBoard(out, self.training.step))
            if config.run.wandb:
                boards.append(WeightsAndBiases(config.run.wandb, out, to_dict(config)))
        self.log = Log(out, self.training.step, write=self.engine.main, boards=tuple(boards))
        self.progress.start()
        self.task = self.progress.add_task("training", total=config.run.steps, completed=self.training.step)
        return self

    def step(self, values: dict[str, float], batch: Batch, bad: int) -> None:
        """A step's values; `bad`: broken images of all processes together."""
        self.training.counted.update(seen=self.training.config.run.batch_size, bad=bad)
        if bad:
            lines = [line for part in self.engine.gather(batch.bad) for line in part]
            self.log.note(self.training.step, lines)
            self.examples = [*lines, *self.examples][:3]
        self.log.add(values, self.training.config.run.batch_size)
        self.progress.update(self.task, completed=self.training.step, description=f"loss {values['loss']:.4f}")

    def look(self, picture: Image.Image, scores: dict[str, float]) -> None:
        self.log.picture(self.training.step, picture)
        self.log.add(scores, 0)

    def write(self) -> None:
        self.log.add({"skipped": self.training.counted["bad"]}, 0)
        self.log.write(self.training.step, self.engine.gather(self.log.sums))

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        self.log.close()
