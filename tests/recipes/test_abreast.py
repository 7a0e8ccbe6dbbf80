"""Stages side by side: all run, one that fails stops the others, signals reach them all."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recipes.nano.abreast import branches_of, run_abreast

ROOT = Path(__file__).parents[2]
# Says that it runs, and what it was told when it is asked to stop.
WAITS = """
import pathlib, signal, sys, time
said = pathlib.Path(sys.argv[1])
def stop(*_):
    said.write_text("stopped")
    raise SystemExit(1)
signal.signal(signal.SIGTERM, stop)
said.write_text("runs")
time.sleep(60)
"""


def command(code, *words):
    return [sys.executable, "-c", code, *map(str, words)]


def until(test):
    end = time.monotonic() + 30
    while not test():
        assert time.monotonic() < end
        time.sleep(0.05)


def says(path, word):
    return path.is_file() and path.read_text() == word


def test_stages_are_joined_by_plus_and_comma():
    assert branches_of("t2i") == [["t2i"]]
    assert branches_of("autoencoder+tower,judge") == [["autoencoder"], ["tower", "judge"]]


def test_all_run_at_once_to_their_ends(tmp_path):
    meet = (
        "import pathlib, sys, time\nown, other = map(pathlib.Path, sys.argv[1:])\nown.touch()\nend = time.time() + 30\n"
    )
    meet += "while not other.exists():\n    assert time.time() < end\n    time.sleep(0.02)\n"
    a, b = tmp_path / "a", tmp_path / "b"
    run_abreast([command(meet, a, b), command(meet, b, a)])


def test_one_that_fails_stops_the_others(tmp_path):
    said = tmp_path / "said"
    fails = (
        "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists():\n    time.sleep(0.02)\nsys.exit(3)"
    )
    with pytest.raises(SystemExit) as ended:
        run_abreast([command(WAITS, said), command(fails, said)])
    assert ended.value.code == 3 and said.read_text() == "stopped"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_ends_the_parent_ends_them_all(tmp_path, number):
    said = [tmp_path / name for name in "ab"]
    code = "from recipes.nano.abreast import run_abreast\n" + f"run_abreast({[command(WAITS, one) for one in said]!r})"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    until(lambda: all(says(one, "runs") for one in said))
    parent.send_signal(number)
    until(lambda: all(says(one, "stopped") for one in said))
    assert parent.wait(30) != 0
