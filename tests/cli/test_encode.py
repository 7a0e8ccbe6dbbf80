"""`vilex encode` of files: a target that is safe, and nothing lost."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.forked import Forked
from vilex.cli.app import app
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.tokens import load_tokens


def encode(*words):
    return CliRunner().invoke(app, ["encode", *map(str, words), "--tokens", "4"])


@pytest.fixture
def encoded(monkeypatch):
    """How many pictures are encoded at a time; from the third time on, it is interrupted."""
    counts = []
    original = ViLexEncoder.encode

    def count(self, images, num_tokens=None, fit=None):
        counts.append(len(images))
        if len(counts) > 2:
            raise KeyboardInterrupt
        return original(self, images, num_tokens, fit)

    monkeypatch.setattr(ViLexEncoder, "encode", count)
    return counts


def test_a_file_that_is_there_is_not_replaced_unasked(images, tmp_path, encoded):
    out = tmp_path / "t.safetensors"
    out.write_bytes(b"somebody's")
    said = encode(images / "0.png", "-o", out)
    assert isinstance(said.exception, InputError) and f"{out}: exists" in str(said.exception)
    assert out.read_bytes() == b"somebody's" and not encoded
    assert encode(images / "0.png", "-o", out, "--overwrite").exit_code == 0
    assert set(load_tokens(out).tokens) == {"0"} and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("out", "message"), [("images", "a folder"), ("images/0.png/t", "is a file"), ("t", "ends in .safetensors")]
)
def test_targets_that_cannot_be_written_are_named_before_the_work(images, tmp_path, encoded, out, message):
    said = encode(images / "0.png", "-o", tmp_path / out)
    assert isinstance(said.exception, InputError) and message in str(said.exception) and not encoded


def test_a_file_that_appears_meanwhile_is_not_replaced_either(images, tmp_path, monkeypatch):
    out, original = tmp_path / "t.safetensors", ViLexEncoder.encode

    def appears(self, pictures, num_tokens=None, fit=None):
        out.write_bytes(b"somebody's")
        return original(self, pictures, num_tokens, fit)

    monkeypatch.setattr(ViLexEncoder, "encode", appears)
    said = encode(images / "0.png", "-o", out, "--json")
    assert json.loads(said.stdout)["file"] == str(tmp_path / "t~2.safetensors")
    assert out.read_bytes() == b"somebody's" and set(load_tokens(tmp_path / "t~2.safetensors").tokens) == {"0"}


def test_an_interrupted_command_keeps_what_is_encoded(images, tmp_path, encoded):
    files = sorted(images.glob("*.png"))
    said = encode(*files, "-o", tmp_path / "t.safetensors", "--batch-size", 2)
    assert said.exit_code == 130 or isinstance(said.exception, KeyboardInterrupt)
    assert encoded == [2, 2, 2]
    assert set(load_tokens(tmp_path / "t.safetensors").tokens) == {"0", "1", "2", "3"}


def test_pictures_that_would_share_a_name_all_survive(tmp_path, pictures):
    paths = [tmp_path / name for name in ("a/cat.png", "cat~2.png", "b/cat.png", "c/cat.jpg")]
    for path, picture in zip(paths, pictures, strict=False):
        path.parent.mkdir(exist_ok=True)
        picture.save(path)
    assert encode(*paths, "-o", tmp_path / "t.safetensors").exit_code == 0
    found = load_tokens(tmp_path / "t.safetensors")
    assert set(found.tokens) == {"cat", "cat~2", "cat~3", "cat~4"}
    hashes = [one["sha256"] for one in found.provenance.values()]
    assert len(set(hashes)) == 4 and found.provenance["cat~2"]["file"] == "cat~2.png"


def test_names_that_are_not_utf8(tmp_path, pictures):
    odd = os.fsencode(tmp_path) + b"/caf\xe9.png"
    pictures[0].save(os.fsdecode(odd))
    Forked("encode", odd, "-o", os.fsencode(tmp_path) + b"/t.safetensors", "--tokens", 2).finish()
    found = load_tokens(tmp_path / "t.safetensors")
    assert set(found.tokens) == {"caf\\udce9"} and found.provenance["caf\\udce9"]["file"] == "caf\\udce9.png"


def test_half_precision_is_close(images, tmp_path):
    for dtype in ("float32", "bfloat16"):
        assert encode(images / "0.png", "-o", tmp_path / f"{dtype}.safetensors", "--dtype", dtype).exit_code == 0
    whole, half = (load_tokens(tmp_path / f"{dtype}.safetensors").tokens["0"] for dtype in ("float32", "bfloat16"))
    assert 0 < (whole - half).abs().max() < 0.05 * whole.abs().max()


def test_photographs_of_a_list_take_the_memory_of_small_ones(tmp_path):
    """Eight of 24 megapixels; decoded, each would take 72 MB."""
    Image.new("RGB", (6000, 4000), "red").save(tmp_path / "0.jpg")
    for i in range(1, 8):
        (tmp_path / f"{i}.jpg").symlink_to(tmp_path / "0.jpg")
    code = """
import resource, sys
from typer.testing import CliRunner
from vilex.cli.app import app
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
run = lambda *files: CliRunner().invoke(app, ["encode", *files, "-o", "t.safetensors", "--overwrite", "--tokens", "1"])
assert run("0.jpg").exit_code == 0
before = peak()
assert run(*(f"{i}.jpg" for i in range(8))).exit_code == 0
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 150
