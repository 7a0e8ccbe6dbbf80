"""The checks of `test_cuda.py` and `benchmarks.gpu` themselves, on the CPU with tiny models: so they are no first draft
when a card is at hand."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, random_weights
from benchmarks.training import photo_shards
from tests import tiny
from tests.gpu import checks
from vilex.plan.plan import make_plan

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
RESULTS = PAGE.with_name("benchmarks-gpu.json")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny shapes, filled as the published ones are."""
    folder = tmp_path_factory.mktemp("models")
    base, tower = tiny.stable_diffusion(folder / "base"), tiny.tower(folder / "tower")
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    random_weights.fill_stable_diffusion(base, torch.bfloat16, "cpu")
    random_weights.fill_tower(tower, "cpu")
    encoder = random_weights.make_encoder(folder / "encoder", base, tower, 32, num_tokens=8, blocks=2, heads=4)
    return gpu.Models(base, tower, encoder, num_tokens=8, blocks=2, heads=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return photo_shards(tmp_path_factory.mktemp("data") / "photos", shards=2, images=6)


def test_training_with_workers_and_resuming(models, data, tmp_path):
    checks.check_training_and_resuming(models, data, tmp_path, "cpu", 6, 1e-6, batch_size=4)


def test_drawing_in_half_precision_and_offloaded(models):
    checks.check_drawing(models, "cpu", steps=4, allowed=10)


def test_bulk_encoding(models, data, tmp_path):
    checks.check_bulk_encoding(models, data, tmp_path, "cpu")


def test_memory_off_the_plan_fails():
    checks.check_memory(gpu.Row("train", 1.0, 1.0, 100, 100))
    for measured in (50, 140):
        with pytest.raises(AssertionError):
            checks.check_memory(gpu.Row("train", 1.0, 1.0, measured, 100))


@pytest.fixture(scope="module")
def rows(models, tmp_path_factory):
    return gpu.measure(models, "cpu", tmp_path_factory.mktemp("runs"), count=2, steps=2)


def test_every_row_is_measured(rows):
    assert [row.what for row in rows] == [
        "train", "train, activations made again", "encode", "draw, 2 steps", "draw, 2 steps, offloaded"
    ]  # fmt: skip
    assert all(row.rate > 0 and row.flops > 0 and row.memory is None for row in rows)
    assert rows[0].flops == rows[1].flops  # what is computed twice is not the model's
    assert rows[0].planned > rows[1].planned and rows[3].planned > rows[4].planned


def test_utilisation_is_of_what_the_card_promises(rows):
    half_busy = [replace(row, flops=0.5 * 989e12 / row.rate, memory=3 * 2**30) for row in rows]
    lines = gpu.table(gpu.report(half_busy, "NVIDIA H100 80GB HBM3")).splitlines()
    assert [line.split(" | ")[2] for line in lines[4:]] == ["50%"] * len(rows)
    assert lines[4].split(" | ")[3] == "3.0 GB"
    assert "card not known" in gpu.table(gpu.report(rows, "Some Card"))
    assert gpu.peak_flops("NVIDIA H100 PCIe") < gpu.peak_flops("NVIDIA H100 80GB HBM3")


def test_the_page_says_what_was_measured_or_that_nothing_was(rows, tmp_path):
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else None
    assert gpu.BEGIN + gpu.table(results) + gpu.END in PAGE.read_text()
    copy = Path(shutil.copy(PAGE, tmp_path))
    gpu.write_page(copy, gpu.report(rows, "NVIDIA H100 80GB HBM3"))
    written = copy.read_text().partition(gpu.BEGIN)[2].partition(gpu.END)[0]
    assert "not measured" not in written and "H100" in written
    gpu.write_page(copy, results)
    assert copy.read_text() == PAGE.read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_nothing_is_written(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["gpu", "-o", str(tmp_path)])
    with pytest.raises(SystemExit, match="no CUDA device"):
        gpu.main()
    assert not list(tmp_path.iterdir())


def test_a_card_is_waited_for_and_asked(monkeypatch):
    """What `benchmarks.gpu` asks of CUDA, by a card that notes it."""
    asked = []
    answers = {"synchronize": None, "reset_peak_memory_stats": None, "max_memory_allocated": 7}
    for name, answer in answers.items():
        note = lambda device, name=name, answer=answer: asked.append((name, device)) or answer  # noqa: E731
        monkeypatch.setattr(torch.cuda, name, note)
    rounds = []
    seconds, memory = gpu._timed(lambda: rounds.append(len(asked)), 3, "cuda:0")
    assert memory == 7 and seconds >= 0
    assert rounds == [0, 2, 2, 2]  # one round before the clock, three between two waits
    order = ["synchronize", "reset_peak_memory_stats", "synchronize", "max_memory_allocated"]
    assert [name for name, _ in asked] == order
    assert {device for _, device in asked} == {"cuda:0"}


def test_results_are_written_beside_the_page(rows, monkeypatch, tmp_path):
    shutil.copy(PAGE, tmp_path)
    monkeypatch.setattr("sys.argv", ["gpu", "-o", str(tmp_path)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA L4")
    monkeypatch.setattr(gpu, "published_models", lambda folder, device: (folder, device))
    monkeypatch.setattr(gpu, "measure", lambda models, device, folder: rows if models == (folder, "cuda") else [])
    gpu.main()
    results = json.loads((tmp_path / "benchmarks-gpu.json").read_text())
    assert results["card"] == "NVIDIA L4" and results["peak"] == 121e12 and len(results["rows"]) == len(rows)
    assert gpu.table(results) in (tmp_path / "benchmarks.md").read_text()


@pytest.mark.slow
def test_the_published_models_fit_a_card(monkeypatch, tmp_path):
    """By the plan, on shapes alone: eight images a step on a card of 80 GB."""
    monkeypatch.setattr(gpu, "fill_stable_diffusion", lambda folder, dtype, device: folder)
    monkeypatch.setattr(gpu, "fill_tower", lambda folder, device: folder)
    monkeypatch.setattr(gpu, "make_encoder", lambda folder, *shape: folder)
    models = gpu.published_models(tmp_path, "cuda")
    plan = make_plan(models.config(tmp_path / "photos", tmp_path / "run", "cpu", batch_size=8))
    assert 10 * 2**30 < plan.peak < 70 * 2**30
    assert plan.trained["tower"] > 400e6 and plan.frozen["denoiser"] > 800e6
