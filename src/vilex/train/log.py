"""What a run writes down: means to JSONL and the trackers, pictures beside them."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vilex.train.run_folder import writing
from vilex.train.trackers import Tracker

Sums = dict[str, tuple[float, float]]  # by name: sum and count


class Log:
    """Means since the last line, to `log.jsonl` and the trackers; pictures to `samples/`.

    Of several processes all add up values, but only the one with `write` touches files. What is added stays a
    tensor on its device until `sums` is asked for.
    """

    def __init__(self, out: Path, step: int, write: bool = True, trackers: Sequence[Tracker] = ()):
        self.out, self.path, self.writes, self.trackers = out, out / "log.jsonl", write, trackers
        if write:
            with writing(self.path):
                out.mkdir(parents=True, exist_ok=True)
                self._forget_after(step)
        self._reset()

    def add(self, values: Mapping[str, float | Tensor], images: int) -> None:
        """Add one step's values.

        Args:
            values: numbers, or sums and counts, [2], of which a step may have none. What is no number, as an
                overflown gradient's norm, is left out.
            images: how many images the step had.
        """
        for name, value in values.items():
            value = torch.as_tensor(value)
            if value.ndim == 0:
                there = value.isfinite()
                value = torch.stack([torch.where(there, value, 0).float(), there.float()])
            self.added[name] = self.added[name] + value if name in self.added else value
        self.images += images

    def sums(self) -> Sums:
        """What was added since the last line; this waits for the device."""
        names = list(self.added)
        devices = {self.added[name].device for name in names}
        rows: dict[str, tuple[float, float]] = {}
        for device in devices:
            there = [name for name in names if self.added[name].device == device]
            table = torch.stack([self.added[name].float() for name in there]).tolist()
            rows |= {name: (total, count) for name, (total, count) in zip(there, table, strict=True)}
        return {name: rows[name] for name in names}

    def write(self, step: int, sums: Sequence[Sums] | None = None) -> dict[str, float]:
        """One line of means, which are returned too; `sums`, if given, are those of all processes."""
        merged: dict[str, list[tuple[float, float]]] = {}
        for part in sums or [self.sums()]:
            for name, pair in part.items():
                merged.setdefault(name, []).append(pair)
        totals = {name: (sum(t for t, _ in pairs), sum(n for _, n in pairs)) for name, pairs in merged.items()}
        row = {name: total / count for name, (total, count) in totals.items() if count}
        row["images_per_second"] = self.images / (time.perf_counter() - self.since)
        self._reset()
        if self.writes:
            short = {name: float(f"{value:.6g}") for name, value in row.items()}
            with writing(self.path):
                with self.path.open("a") as file:
                    file.write(json.dumps({"step": step, **short}) + "\n")
                for tracker in self.trackers:
                    tracker.scalars(step, row)
        return row

    def picture(self, step: int, image: Image.Image) -> None:
        """A grid, to `samples/` and all trackers."""
        path = self.out / "samples" / f"step-{step:07d}.png"
        with writing(path):
            path.parent.mkdir(exist_ok=True)
            image.save(path)
            for tracker in self.trackers:
                tracker.picture(step, image)

    def note(self, step: int, lines: list[str]) -> None:
        """What went wrong and was left out, to `skipped.jsonl`."""
        if not (lines and self.writes):
            return
        path = self.out / "skipped.jsonl"
        with writing(path), path.open("a") as file:
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
        self.added: dict[str, Tensor] = {}
        self.images, self.since = 0, time.perf_counter()

    def close(self) -> None:
        """Let trackers write what they hold."""
        for tracker in self.trackers:
            tracker.close()
