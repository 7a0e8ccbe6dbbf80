"""Every family's diffusers pipeline that reads images in its prompts."""

from pathlib import Path

import accelerate
import numpy as np
import pytest
import torch

import vilex.pipelines
from tests.conformance.common import guided, own_pipeline
from tests.drawings import same
from tests.families import FAMILIES
from vilex.errors import InputError
from vilex.guidance import Guidance

FILES = Path(vilex.pipelines.__file__).parent


@pytest.fixture
def custom(family, lexicon, tmp_path):
    """The family's custom pipeline, and an encoder's folder for it."""
    lexicon.encoder.save_pretrained(tmp_path / "encoder")
    file = FILES / f"{type(lexicon.t2i).__module__.split('.')[-1]}.py"
    return own_pipeline(family, custom_pipeline=str(file), trust_remote_code=True), tmp_path / "encoder"


def draw(pipeline, name, lexicon, picture, **how):
    return pipeline(
        "<cat:4> in snow", {"cat": picture}, **guided(name), **how, num_inference_steps=3,
        height=lexicon.t2i.image_size, width=lexicon.t2i.image_size, generator=torch.Generator().manual_seed(2),
    ).images[0]  # fmt: skip


@pytest.mark.parametrize("text_free", [False, True])
def test_it_draws_the_lexicons_picture(family, lexicon, custom, pictures, text_free):
    pipeline, encoder = custom
    if text_free and not lexicon.t2i.steered:
        with pytest.raises(InputError, match="steers away from nothing"):
            draw(pipeline.load_vilex(encoder), family[0], lexicon, pictures[0], text_free=True)
        return
    guidance = Guidance(1.0, 2.5) if text_free else FAMILIES[family[0]].guidance
    expected = lexicon.generate(
        "<cat:4> in snow", {"cat": pictures[0]}, guidance=guidance, steps=3, seed=2,
        scheduler=FAMILIES[family[0]].scheduler,
    )[0]  # fmt: skip
    drawn = draw(pipeline.load_vilex(encoder), family[0], lexicon, pictures[0], text_free=text_free)
    assert same(drawn, expected)


@pytest.fixture
def _cpu_without_a_number(monkeypatch):
    """diffusers asks for "cpu:0", which accelerate's layer hooks never find to be "cpu"."""
    real = accelerate.cpu_offload
    monkeypatch.setattr(accelerate, "cpu_offload", lambda module, device, **how: real(module, "cpu", **how))


@pytest.mark.usefixtures("_cpu_without_a_number")
@pytest.mark.parametrize("way", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
@pytest.mark.parametrize("first", ["offload", "load_vilex"])
def test_parts_that_wait_elsewhere(family, lexicon, custom, pictures, way, first):
    pipeline, encoder = custom
    expected = draw(pipeline.load_vilex(encoder), family[0], lexicon, pictures[0])
    if first == "load_vilex":
        getattr(pipeline, way)(device="cpu")
    else:
        del pipeline.lexicon
        getattr(pipeline, way)(device="cpu")
        pipeline.load_vilex(encoder)
    for _ in range(2):
        assert same(draw(pipeline, family[0], lexicon, pictures[0]), expected)
    waiting = next(pipeline.components[lexicon.t2i.denoiser].parameters())
    assert waiting.is_meta == ("sequential" in way)


def test_in_half_precision(family, lexicon, custom, pictures):
    pipeline, encoder = custom
    expected = draw(pipeline.load_vilex(encoder), family[0], lexicon, pictures[0])
    drawn = draw(pipeline.to(torch.bfloat16).load_vilex(encoder), family[0], lexicon, pictures[0])
    assert 0 < np.abs(np.asarray(expected, dtype=float) - np.asarray(drawn)).mean() < 3


@pytest.mark.filterwarnings("ignore::vilex.prompt.PromptWarning")
def test_words_alone_are_the_base_pipelines(family, lexicon, custom):
    how = {
        "guidance": FAMILIES[family[0]].guidance,
        "seed": 2,
        "steps": 3,
        "scheduler": FAMILIES[family[0]].scheduler,
    }
    size = lexicon.t2i.image_size
    drawn = custom[0](
        "cat dog in snow", num_inference_steps=3, height=size, width=size, **FAMILIES[family[0]].own,
        generator=torch.Generator().manual_seed(2),
    ).images[0]  # fmt: skip
    assert same(drawn, lexicon.generate("cat dog in snow", **how)[0])
