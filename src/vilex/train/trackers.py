"""Where a run's curves and pictures can be watched: TensorBoard always, Weights & Biases where asked for."""

import uuid
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from vilex.errors import InputError
from vilex.extras import needs

with needs("train"):
    from torch.utils.tensorboard import SummaryWriter


class Tracker(Protocol):
    """A place that shows numbers and pictures by step."""

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Numbers by name."""

    def picture(self, step: int, image: Image.Image) -> None:
        """A grid of re-created pictures."""

    def close(self) -> None:
        """Write what is held."""


class TensorBoard:
    """`out`/tensorboard. What an earlier process wrote after `step` is hidden: those steps are done again."""

    def __init__(self, out: Path, step: int):
        self.writer = SummaryWriter(out / "tensorboard", purge_step=step or None)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, step: int, image: Image.Image) -> None:
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3)
        self.writer.add_image("samples", pixels, step, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run of the wandb project `project`; its id is kept in `out`, so a run that goes on is one run there too.

    `WANDB_MODE=offline` keeps it below `out`/wandb until `wandb sync`.

    Raises:
        InputError: wandb is not installed, or refuses.
    """

    def __init__(self, project: str, out: Path, config: dict[str, Any]):
        with needs("wandb"):
            import wandb
        kept = out / "wandb-id"
        run_id = kept.read_text() if kept.is_file() else uuid.uuid4().hex[:8]
        kept.write_text(run_id)
        self._as_image = wandb.Image
        try:
            self.run = wandb.init(
                project=project, name=out.name, id=run_id, resume="allow", dir=out, config=config,
                settings=wandb.Settings(silent=True, console="off"),
            )  # fmt: skip
        except wandb.errors.Error as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise InputError(f"run.wandb: {reason}; log in with `wandb login`, or set WANDB_MODE=offline") from None
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self.run.log({"step": step, **values})

    def picture(self, step: int, image: Image.Image) -> None:
        self.run.log({"step": step, "samples": self._as_image(image)})

    def close(self) -> None:
        self.run.finish()
