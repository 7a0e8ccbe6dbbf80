"""What a run writes down: means to JSONL and the boards, pictures beside them."""

import json
import time
from contextlib import suppress
from pathlib import Path

from PIL import Image

from vilex.train.trackers import Board


class Log:
    """Means since the last line, to `log.jsonl` and the boards; pictures to `samples/`.

    Of several processes all add up values, but only the one with `write` touches files.
    """

    def __init__(self, out: Path, step: int, write: bool = True, boards: tuple[Board, ...] = ()):
        self.out, self.path, self.writes, self.boards = out, out / "log.jsonl", write, boards
        if write:
            out.mkdir(parents=True, exist_ok=True)
            self._forget_after(step)
        self._reset()

    def add(self, values: dict[str, float], images: int) -> None:
        """One step's values. A value that not every step has is averaged over the steps that have it."""
        for name, value in values.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = total + value, count + 1
        self.images += images

    def write(self, step: int, sums: list[dict[str, tuple[float, int]]] | None = None) -> None:
        """One line of means; `sums`, if given, are those of all processes."""
        merged: dict[str, list[tuple[float, int]]] = {}
        for part in sums or [self.sums]:
            for name, pair in part.items():
                merged.setdefault(name, []).append(pair)
        row = {name: sum(t for t, _ in pairs) / sum(n for _, n in pairs) for name, pairs in merged.items()}
        row["images_per_second"] = self.images / (time.perf_counter() - self.since)
        self._reset()
        if not self.writes:
            return
        short = {name: float(f"{value:.6g}") for name, value in row.items()}
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **short}) + "\n")
        for board in self.boards:
            board.scalars(step, row)

    def picture(self, step: int, image: Image.Image) -> None:
        folder = self.out / "samples"
        folder.mkdir(exist_ok=True)
        image.save(folder / f"step-{step:07d}.png")
        for board in self.boards:
            board.picture(step, image)

    def note(self, step: int, lines: list[str]) -> None:
        """What went wrong and was left out, to `skipped.jsonl`."""
        if not (lines and self.writes):
            return
        with (self.out / "skipped.jsonl").open("a") as file:
            file.writelines(json.dumps({"step": step, "skipped": line}) + "\n" for line in lines)

    def _forget_after(self, step: int) -> None:
        """Drop the lines of steps that will be done again, and half a line of a run that was killed."""
        lines = []
        for line in self.path.read_text().splitlines() if self.path.is_file() else []:
            with suppress(ValueError):
                if json.loads(line)["step"] <= step:
                    lines.append(line + "\n")
        aside = self.path.with_suffix(".tmp")
        aside.write_text("".join(lines))
        aside.replace(self.path)

    def _reset(self) -> None:
        self.sums: dict[str, tuple[float, int]] = {}
        self.images, self.since = 0, time.perf_counter()

    def close(self) -> None:
        for board in self.boards:
            board.close()
