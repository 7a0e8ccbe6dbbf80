"""docs/first-steps.md, done as it is written, with fewer denoising steps."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vilex.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "first-steps.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_step_does_what_the_page_says(tmp_path, monkeypatch, capsys):
    """In this process, but for what the page runs in Python's own: imports take longer than all the rest."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines()]
    assert len(lines) == 6
    for line in lines:
        command, *words = shlex.split(re.split(r"\s#\s", line)[0])
        if words[0] in ("reconstruct", "generate"):
            words += ["--steps", "2"]
        if command == "vilex":
            status, said = run(words, monkeypatch, capsys)
        else:
            done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
            status, said = done.returncode, done.stderr
        refused = line.endswith("# refused")
        assert status == (2 if refused else 0), said
        assert not refused or f"`{said.strip()}`" in PAGE
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    quick = code.replace("tfg=4))", "tfg=4), steps=2)")
    assert quick != code
    exec(compile(quick, "first-steps.md", "exec"), {})
    for made in ("out/dog/dog-grid.png", "out/snow/003.png", "out/both/manifest.json", "dog-in-snow.png"):
        assert (tmp_path / made).is_file(), made


def run(words, monkeypatch, capsys):
    """The exit status of `vilex words...`, and what it wrote to stderr."""
    monkeypatch.setattr(sys, "argv", ["vilex", *words])
    capsys.readouterr()
    try:
        status = main() or 0
    except SystemExit as end:
        status = end.code or 0
    return status, capsys.readouterr().err
