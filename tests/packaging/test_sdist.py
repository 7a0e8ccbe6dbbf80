"""What the source distribution holds: its tests are found inside it, and all they read is there."""

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT_OUT = (".git", ".venv", "build", "dist", "out", "shared", "*.egg-info", "__pycache__", ".*_cache")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The distribution, built from a copy of the sources and unpacked elsewhere."""
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, folder / "copy", ignore=shutil.ignore_patterns(*LEFT_OUT))
    build = "from setuptools.build_meta import build_sdist; print(build_sdist('..'))"
    subprocess.run([sys.executable, "-c", build], cwd=folder / "copy", check=True, capture_output=True)
    (archive,) = folder.glob("vilex-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def collected(folder):
    """Every test found below a folder, in a process that imports that folder's own sources."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-qq",
        "-p",
        "no:cacheprovider",
        "-o",
        "pythonpath=. src",
    ]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    return {line for line in done.stdout.splitlines() if re.fullmatch(r"tests/\S+\.py: \d+", line)}


@pytest.mark.slow
def test_its_tests_are_found_inside_it(unpacked):
    names = {line.partition(":")[0] for line in collected(unpacked)}
    assert names == {str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/test_*.py")}


def test_it_holds_what_tests_and_commands_read(unpacked):
    kept = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    folders = (
        "benchmarks",
        "configs",
        "docs",
        "examples",
        "integrations",
        "recipes",
        "src",
        "tests",
        "tools",
        ".ci",
        ".github",
    )
    wanted = {
        str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()
    }
    wanted = {name for name in wanted if "__pycache__" not in name and ".egg-info" not in name}
    files = {path.name for path in ROOT.glob("*.*") if path.suffix in {".md", ".toml", ".yml", ".txt", ".cff", ".py"}}
    files |= {"LICENSE", "LICENSE-WEIGHTS", "Makefile"}
    assert {"README.md", "CHANGELOG.md", "setup.py"} < files and wanted | files <= kept
