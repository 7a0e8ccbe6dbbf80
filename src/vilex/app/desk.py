"""Where pictures are drawn: one job at a time, with its progress said and each of them stoppable."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock
from typing import Any

Progress = Callable[..., Any]  # gradio's: progress((done, all), desc=..., unit=...)
PATIENCE = 30.0  # seconds that a stop waits for the step it falls into


class Stopped(Exception):
    """A visitor stopped the job. The message says how far it had come."""


class Job:
    """A visitor's work on the device, of several parts that are drawn one after the other.

    Args:
        total: parts.
    """

    def __init__(self, desk: "Desk", progress: Progress, total: int):
        self._desk, self._progress, self.total = desk, progress, total
        self.finished = 0  # parts
        self.stop, self.ended = Event(), Event()

    @contextmanager
    def part(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """Hold the device for one part; yields the `on_step` of `VisualLexicon.generate`.

        Raises:
            Stopped: from `on_step`, as soon as the visitor asks for it.
        """

        def on_step(done: int, steps: int) -> None:
            reached, all_of_them = self.finished * steps + done, self.total * steps
            if self.stop.is_set():
                raise Stopped(f"Stopped at step {reached} of {all_of_them}")
            self._progress((reached, all_of_them), desc=title, unit="steps")

        try:
            with self._desk.device:
                if self.stop.is_set():
                    raise Stopped("Stopped")
                yield on_step
        except BaseException:
            self.ended.set()
            raise
        self.finished += 1


class Desk:
    """The device, and the jobs that run on it by the page they belong to."""

    def __init__(self) -> None:
        self.device, self._jobs = Lock(), dict[str, Job]()

    @contextmanager
    def job(self, page: str, progress: Progress, parts: int) -> Iterator[Job]:
        """A job of `parts` parts, known to `stop` until it ends."""
        job = self._jobs[page] = Job(self, progress, parts)
        try:
            yield job
        finally:
            job.ended.set()
            if self._jobs.get(page) is job:
                del self._jobs[page]

    def stop(self, page: str, wait: float = PATIENCE) -> bool:
        """Stop a page's job, and wait for its last step; whether there was one."""
        job = self._jobs.get(page)
        if job is None:
            return False
        job.stop.set()
        job.ended.wait(wait)
        return True
