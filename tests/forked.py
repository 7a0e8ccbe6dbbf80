"""Commands in processes of their own that need not import what all of them import.

A new interpreter takes five seconds of a core for torch, transformers and diffusers, longer than most commands here
run. So one process imports them, computes nothing, and each command is a fork of it; the processes of a distributed run
are forks, too, with the environment that `torchrun` gives its own. Where the start itself is tested (`torchrun`, a
clean set of packages, the hub's variables, peak memory), a real one is made.
"""

import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPORTED = ["vilex.cli.app", "vilex.train.loop", "vilex.lexicon", "vilex.understand.transfer_loop"]
PATIENCE = 0.02  # seconds between two looks


class Forked:
    """`python -m MODULE WORDS...`, in one process or in several that share a run, each in a group of its own."""

    def __init__(self, *words: object, module: str = "vilex", processes: int = 1) -> None:
        context = _server()
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        given = [os.fsdecode(word) if isinstance(word, bytes) else str(word) for word in words]
        self._started: list[BaseProcess] = []
        weakref.finalize(self, _end, self._started)  # of a test that fails, nothing stays
        for rank, own in enumerate([{}] if processes == 1 else _ranks(processes)):
            said = Path(self._folder.name, str(rank))
            how = module, given, {**os.environ, **own}, said
            self._started.append(context.Process(target=_become, args=how))
            self._started[-1].start()

    def poll(self) -> int | None:
        """The exit status, minus the signal for one that was killed; None while it runs. One that fails ends all."""
        found = [one.exitcode for one in self._started]
        if any(found):
            self.kill()
            return next(code for code in found if code)
        return None if None in found else 0

    def wait(self, timeout: float = 300) -> int:
        """The exit status, once all have ended."""
        end = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                self.kill()
                raise TimeoutError(f"after {timeout:g} s: {self.output[-2000:]}")
            time.sleep(PATIENCE)
        return status

    def finish(self) -> str:
        """Wait for it, see that it went well, and return what it said."""
        status = self.wait()
        assert status == 0, (status, self.output[-9000:])
        return self.output

    def send_signal(self, number: int) -> None:
        for one in self._started:
            os.kill(one.pid, number)

    def kill(self) -> None:
        """End them, and what they have started, with SIGKILL."""
        _end(self._started)

    @property
    def stdout(self) -> str:
        return self._said("stdout")

    @property
    def stderr(self) -> str:
        return self._said("stderr")

    @property
    def output(self) -> str:
        return self.stdout + self.stderr

    def _said(self, stream: str) -> str:
        """What all have written to a stream so far, one after the other."""
        paths = sorted(Path(self._folder.name).glob(f"*.{stream}"))
        return "".join(path.read_text(encoding="utf-8", errors="backslashreplace") for path in paths)


@cache
def _server() -> multiprocessing.context.ForkServerContext:
    """What forks: started once, and told to compute in one thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()
    return context


def _ranks(processes: int) -> list[dict[str, str]]:
    """What `torchrun` says to each process of a run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    count = str(processes)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def _end(started: Sequence[BaseProcess]) -> None:
    for one in started:
        if one.exitcode is None:
            with suppress(ProcessLookupError):  # it leads no group yet
                os.killpg(one.pid, signal.SIGKILL)
            one.kill()
        one.join()


def _become(module: str, words: Sequence[str], environment: Mapping[str, str], said: Path) -> None:
    os.setsid()
    for number, name in enumerate(("stdout", "stderr"), 1):
        os.dup2(os.open(said.with_suffix(f".{name}"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    os.chdir(ROOT)
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
