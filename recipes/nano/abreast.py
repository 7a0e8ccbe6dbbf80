"""Stages that need nothing of each other, in processes side by side.

A step's small products leave the second of two cores idle a third of the time; two processes of a thread each do not.
"""

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from vilex.train.signals import StopSignal

PATIENCE = 0.2  # seconds between two looks
LIBC: Any = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before there are forks
PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent is gone


def branches_of(word: str) -> list[list[str]]:
    """`autoencoder+tower,judge`: each process's stages, in order; of a stage's name alone, one of one."""
    return [branch.split(",") for branch in word.split("+")]


def run_abreast(commands: Sequence[Sequence[str]]) -> None:
    """Run commands until all have ended. A SIGTERM or Ctrl-C goes to all of them; where one fails, the others are asked
    to stop, and what they have done by then is kept.

    Raises:
        SystemExit: one failed or was stopped; with the status of the first that did.
    """
    with StopSignal() as stop:
        running = [
            subprocess.Popen(list(command), preexec_fn=_end_with_parent if LIBC else None) for command in commands
        ]
        while None in (found := [process.poll() for process in running]) and not (any(found) or stop.asked):
            time.sleep(PATIENCE)
        for process in running:
            process.terminate()  # nothing to one that has ended
        ended = [process.wait() for process in running]
    if status := next((status for status in (*found, *ended) if status), 0):
        raise SystemExit(abs(status))


def _end_with_parent() -> None:
    """A killed parent takes its processes with it: two of one stage would write one state."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
