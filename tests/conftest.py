import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # threads that share a core wait for each other most of the time
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from vilex.encoder import ViLexEncoder
from vilex.hub.folder import fingerprint
from vilex.lexicon import VisualLexicon
from vilex.t2i import load_t2i
from vilex.train.config import TrainConfig
from vilex.train.toml import build

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


def pytest_addoption(parser):
    parser.addoption("--write-golden", action="store_true", help="write golden files anew instead of comparing")


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory):
    """Two frozen models by version: 1 (eps) and 2 (v)."""
    return {version: tiny.stable_diffusion(tmp_path_factory.mktemp(f"sd{version}"), version) for version in (1, 2)}


@pytest.fixture(scope="session")
def tower_folder(tmp_path_factory):
    return tiny.tower(tmp_path_factory.mktemp("tower"))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, sd_folder, tower_folder):
    """A model folder as `vilex train` leaves it: an encoder for the eps model."""
    torch.manual_seed(5)
    encoder = ViLexEncoder.from_tower(
        str(tower_folder), width=32, num_tokens=75, blocks=2, heads=4,
        base_model=str(sd_folder[1]), base_sha256=fingerprint(sd_folder[1]),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    encoder.save_pretrained(folder)
    return folder


@pytest.fixture(params=[1, 2], ids=["sd1-eps", "sd2-v"])
def lexicon(request, sd_folder, model_folder):
    encoder = ViLexEncoder.from_pretrained(model_folder)
    return VisualLexicon(encoder, load_t2i(sd_folder[request.param]))


@pytest.fixture
def pictures():
    """Eight pictures, each a different blob on a different ground."""
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(8):
        pixels = np.full((32, 32, 3), rng.integers(0, 256, 3), dtype=np.uint8)
        y, x = rng.integers(4, 20, 2)
        pixels[y : y + 10, x : x + 10] = rng.integers(0, 256, 3)
        drawn.append(Image.fromarray(pixels))
    return drawn


@pytest.fixture
def images(tmp_path, pictures):
    """A folder of the eight pictures, each with a caption beside it."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i, picture in enumerate(pictures):
        picture.save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text("a cat in snow")
    return folder


@pytest.fixture
def configure(tmp_path, sd_folder, tower_folder, images):
    """A debug run on the tiny v-prediction model; sections override its settings."""

    def make(out="run", **sections):
        settings = {
            "model": {"base": str(sd_folder[2]), "tower": str(tower_folder), "num_tokens": 8, "blocks": 2, "heads": 4},
            "data": {"path": str(images)},
            "optim": {"tower_lr": 1e-4, "pooler_lr": 3e-3, "warmup_steps": 4, "ema_decay": 0.99},
            "run": {"out": str(tmp_path / out), "steps": 20, "batch_size": 4, "device": "cpu", "log_every": 1,
                    "sample_every": 0, "save_every": 100},
        }  # fmt: skip
        for section, values in sections.items():
            settings.setdefault(section, {}).update(values)
        settings["optim"]["warmup_steps"] = min(settings["optim"]["warmup_steps"], settings["run"]["steps"])
        return build(TrainConfig, settings)

    return make
