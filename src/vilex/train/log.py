"""What a run writes down: means to JSONL and TensorBoard, pictures beside them."""

import json
import time
from pathlib import Path

import torch
from PIL import Image
from torch.utils.tensorboard import SummaryWriter


class Log:
    """Means since the last line, to `log.jsonl` and TensorBoard; pictures to `samples/`."""

    def __init__(self, out: Path, step: int):
        self.out, self.path = out, out / "log.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = self.path.read_text().splitlines() if self.path.is_file() else []
        kept = [line for line in kept if json.loads(line)["step"] <= step]
        self.path.write_text("".join(line + "\n" for line in kept))
        self.board = SummaryWriter(out / "tensorboard", purge_step=step or None)
        self._reset()

    def add(self, values: dict[str, float], images: int) -> None:
        """One step's values. A value that not every step has is averaged over the steps that have it."""
        for name, value in values.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = total + value, count + 1
        self.images += images

    def write(self, step: int) -> None:
        row = {name: total / count for name, (total, count) in self.sums.items()}
        row["images_per_second"] = self.images / (time.perf_counter() - self.since)
        with self.path.open("a") as file:
            file.write(
                json.dumps({"step": step, **{name: float(f"{value:.6g}") for name, value in row.items()}}) + "\n"
            )
        for name, value in row.items():
            self.board.add_scalar(name, value, step)
        self._reset()

    def picture(self, step: int, image: Image.Image) -> None:
        folder = self.out / "samples"
        folder.mkdir(exist_ok=True)
        image.save(folder / f"step-{step:07d}.png")
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3)
        self.board.add_image("samples", pixels, step, dataformats="HWC")

    def _reset(self) -> None:
        self.sums: dict[str, tuple[float, int]] = {}
        self.images, self.since = 0, time.perf_counter()

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.board.close()
