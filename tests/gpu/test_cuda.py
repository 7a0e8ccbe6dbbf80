"""On a CUDA card: Stable Diffusion 1.5 and SigLIP So400m with random weights; skipped elsewhere. `make gpu`."""

import pytest
import torch

from benchmarks import gpu
from benchmarks.training import photo_shards
from tests.gpu import checks

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
DEVICE = "cuda"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return gpu.published_models(tmp_path_factory.mktemp("models"), DEVICE)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return photo_shards(tmp_path_factory.mktemp("data") / "photos", shards=2)


def test_training_with_workers_and_compile_and_resuming(models, data, tmp_path):
    checks.check_training_and_resuming(models, data, tmp_path, DEVICE, 50, 0.05, batch_size=8, compile=True)


def test_drawing_in_half_precision_and_offloaded(models):
    checks.check_drawing(models, DEVICE, steps=20, allowed=10)


def test_bulk_encoding(models, data, tmp_path):
    checks.check_bulk_encoding(models, data, tmp_path, DEVICE)


@pytest.mark.parametrize("again", [False, True], ids=["activations-held", "activations-made-again"])
def test_training_takes_what_was_planned(models, data, tmp_path, again):
    config = models.config(data, tmp_path / "run", DEVICE, batch_size=8, gradient_checkpointing=again)
    checks.check_memory(gpu.train(config, "train", steps=3))


@pytest.mark.parametrize("offload", [None, "model"])
def test_drawing_takes_what_was_planned(models, offload):
    checks.check_memory(gpu.draw(models, DEVICE, offload, count=4, steps=4))


def test_the_benchmark_fills_the_page(models, tmp_path):
    rows = gpu.measure(models, DEVICE, tmp_path, count=8, steps=5)
    assert all(row.rate > 0 and row.flops > 0 and row.memory for row in rows)
    results = gpu.report(rows, torch.cuda.get_device_name())
    if results["peak"]:
        assert all(0 < row.rate * row.flops / results["peak"] < 1 for row in rows)
    assert gpu.table(results).count("\n|") == len(rows) + 2
