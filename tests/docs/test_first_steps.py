"""docs/first-steps.md, done as it is written, with fewer denoising steps."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "first-steps.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_step_does_what_the_page_says(tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines()]
    assert len(lines) == 6
    for line in lines:
        command, *words = shlex.split(re.split(r"\s#\s", line)[0])
        if words[0] in ("reconstruct", "generate"):
            words += ["--steps", "2"]
        start = [sys.executable, "-m", "vilex"] if command == "vilex" else [sys.executable]
        done = subprocess.run([*start, *words], cwd=tmp_path, capture_output=True, text=True)
        refused = line.endswith("# refused")
        assert done.returncode == (2 if refused else 0), done.stderr
        assert not refused or f"`{done.stderr.strip()}`" in PAGE
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    quick = code.replace("tfg=4))", "tfg=4), steps=2)")
    assert quick != code
    done = subprocess.run([sys.executable, "-c", quick], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for made in ("out/dog/dog-grid.png", "out/snow/003.png", "out/both/manifest.json", "dog-in-snow.png"):
        assert (tmp_path / made).is_file(), made
