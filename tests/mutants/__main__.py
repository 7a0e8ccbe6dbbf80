"""`python -m tests.mutants [WORDS ...]`: each damage must make a test fail; words choose those whose names hold them.

The sources are copied, the copy is damaged, and the damage's own tests run against the copy. First they must all pass
against the copy as it is. Ends with status 1 if a damage goes unnoticed, or if anything but a failing test ends a run.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mutants.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "vilex"
PASSED, FAILED = int(pytest.ExitCode.OK), int(pytest.ExitCode.TESTS_FAILED)


def damaged(mutant: Mutant, source: Path = SOURCE) -> str:
    """The text of the mutant's file with its damage.

    Raises:
        ValueError: what the mutant replaces does not stand there once.
    """
    text = (source / mutant.file).read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {mutant.file} has {text.count(mutant.old)} times {mutant.old!r}, not once")
    return text.replace(mutant.old, mutant.new)


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the package, whose weights are links."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "vilex"
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("models", "__pycache__"))
        (copy / "models").symlink_to(SOURCE / "models", target_is_directory=True)
        yield copy


def run_tests(package: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """pytest's status and last line, with `package` in the place of the installed one."""
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    check = f"import vilex, sys; sys.exit(not vilex.__file__.startswith({str(package)!r}))"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, env=environment, check=True)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return done.returncode, lines[-1] if lines else done.stderr[-200:]


def main(words: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.name for word in words)]
    if not chosen:
        print(f"no damage has {' and '.join(words)} in its name")
        return 2
    bad = []
    with copied() as package:
        status, line = run_tests(package, tuple(dict.fromkeys(test for mutant in chosen for test in mutant.tests)))
        if status != PASSED:
            print(f"the undamaged code does not pass: {line}")
            return 1
        for mutant in chosen:
            file, start = package / mutant.file, time.perf_counter()
            whole = file.read_text(encoding="utf-8")
            file.write_text(damaged(mutant), encoding="utf-8")
            status, line = run_tests(package, mutant.tests)
            file.write_text(whole, encoding="utf-8")
            said = {FAILED: "caught", PASSED: "NOT CAUGHT"}.get(status, f"BROKE OFF ({line})")
            print(f"{said:10}  {time.perf_counter() - start:5.1f} s  {mutant.file}: {mutant.name}", flush=True)
            bad += [mutant] if status != FAILED else []
    print(f"{len(chosen) - len(bad)} of {len(chosen)} caught")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
