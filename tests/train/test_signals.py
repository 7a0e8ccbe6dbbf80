"""Being asked to stop, in this process and in real ones with data workers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.runs import losses, same, weights
from vilex.errors import InputError
from vilex.train.checkpoint import list_checkpoints
from vilex.train.loop import train
from vilex.train.signals import StopSignal
from vilex.train.training import Training


def raise_in_second_step(patch, number):
    original = Training.update

    def update(self, *given):
        if self.step == 1:
            signal.raise_signal(number)
        return original(self, *given)

    patch.setattr(Training, "update", update)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(configure, monkeypatch, number):
    config = configure("signalled", run={"steps": 6})
    with monkeypatch.context() as patch:
        raise_in_second_step(patch, number)
        with pytest.raises(InputError, match="stopped at step 3 of 6; the same command goes on"):
            train(config, quiet=True)
    train(config, quiet=True)
    straight = configure("straight", run={"steps": 6})
    train(straight, quiet=True)
    assert same(weights(config), weights(straight))


def test_a_second_interrupt_stops_at_once_a_second_termination_does_not(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    before = signal.getsignal(signal.SIGINT)
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_launcher_s_echo_of_an_interrupt_is_not_a_second_one(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with StopSignal() as stop:
        for now[0] in (100.0, 100.2):
            signal.raise_signal(signal.SIGINT)
        assert stop.asked
        now[0] = 107.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def start(config, tmp_path, *launcher):
    """`vilex train` in a process group of its own, with two data workers a process; returns when it trains."""
    toml = tmp_path / "run.toml"
    toml.write_text(
        f"""
        [model]
        base = "{config.model.base}"
        tower = "{config.model.tower}"
        num_tokens = 8
        blocks = 2
        heads = 4
        [data]
        path = "{config.data.path}"
        workers = 2
        [optim]
        warmup_steps = 1
        [run]
        out = "{config.run.out}"
        steps = 100000
        batch_size = 4
        threads = 1
        device = "cpu"
        log_every = 1
        sample_every = 0
        save_every = 90000
        """
    )
    process = subprocess.Popen(
        [sys.executable, *launcher, "-m", "vilex", "train", str(toml)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while process.poll() is None and not _logged(config) and time.monotonic() < end:
        time.sleep(0.1)
    return process


def _logged(config):
    log = Path(config.run.out, "log.jsonl")
    return log.is_file() and log.stat().st_size > 0


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


@pytest.mark.parametrize(
    ("launcher", "send"),
    [((), os.killpg), (TORCHRUN, os.killpg), (TORCHRUN, os.kill)],
    ids=["alone", "torchrun", "torchrun which passes it on"],
)
def test_a_termination_saves_and_ends_all_processes(configure, tmp_path, launcher, send):
    """To the whole group, data workers and all; or to torchrun alone, as a scheduler's step may have it."""
    config = configure(run={"steps": 9})
    process = start(config, tmp_path, *launcher)
    family = psutil.Process(process.pid).children(recursive=True)
    send(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert "the same command goes on from there" in output and "killed by signal" not in output, output
    assert process.returncode != 0 if launcher else process.returncode == 2
    (saved,) = list_checkpoints(Path(config.run.out) / "checkpoints")
    assert int(saved.name.removeprefix("step-")) == max(losses(config))
    _, alive = psutil.wait_procs(family, timeout=20)
    assert len(family) >= 2 and not alive


def test_two_interrupts_end_a_run_at_once(configure, tmp_path):
    config = configure(run={"steps": 9})
    process = start(config, tmp_path)
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.001)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0 and "Traceback" not in output, output


CUT = """
from multiprocessing import resource_sharer
from multiprocessing.connection import Client
from multiprocessing.process import current_process
from vilex.data.loader import leave_signals_to_the_parent

leave_signals_to_the_parent(0)
address, _ = resource_sharer.DupFd(1)._id
Client(address, authkey=current_process().authkey).close()  # as a parent does that is interrupted within a batch
resource_sharer.stop(timeout=20)
raise ValueError("of its own")
"""


def test_a_worker_says_nothing_of_a_connection_that_its_parent_cut():
    ended = subprocess.run([sys.executable, "-c", CUT], capture_output=True, text=True)
    assert "EOFError" not in ended.stderr and "ValueError: of its own" in ended.stderr, ended.stderr
