"""Pictures that are not square, in every family as diffusers' own pipelines draw them."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch

from tests.conformance.common import guided, own_pipeline, word_tokens
from tests.conformance.test_custom_pipelines import FILES
from tests.drawings import same
from tests.families import FAMILIES
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.guidance import Guidance
from vilex.lexicon import VisualLexicon
from vilex.requests import SizeWarning
from vilex.t2i import load_t2i

HOW = {"guidance": Guidance(2.5), "seed": 7, "steps": 3}


def own_picture(pipeline, name, width, height):
    """What diffusers' pipeline draws of words alone."""
    return pipeline(
        prompt="cat dog in snow", num_inference_steps=3, width=width, height=height, **FAMILIES[name].own,
        generator=torch.Generator().manual_seed(7),
    ).images[0]  # fmt: skip


@pytest.mark.filterwarnings("ignore::vilex.prompt.PromptWarning")
def test_sizes_that_are_not_square_are_diffusers_own(family, lexicon):
    name, pipeline = family[0], own_pipeline(family)
    if not lexicon.t2i.resizable:
        with pytest.raises(InputError, match="size 24x16: IFPipeline draws 16x16 alone; leave the size out"):
            lexicon.generate("cat", width=24)
        return
    tokens = {"v": word_tokens(lexicon.t2i, ["cat", " dog"])}
    for width, height in FAMILIES[name].sizes:
        expected = own_picture(pipeline, name, width, height)
        how = {
            **HOW,
            "guidance": FAMILIES[name].guidance,
            "scheduler": FAMILIES[name].scheduler,
            "width": width,
            "height": height,
        }
        words = lexicon.generate("cat dog in snow", **how)[0]
        vectors = lexicon.generate("<v:2> in snow", tokens, **how)[0]
        assert words.size == (width, height) and same(words, expected) and same(vectors, words)


@pytest.mark.filterwarnings("ignore::vilex.prompt.PromptWarning")
@pytest.mark.parametrize("name", ["sd3", "z-image"])
def test_a_shift_by_resolution_is_diffusers_own(name, folders, lexicon_of, tmp_path):
    """Where a scheduler's configuration asks for one, as SD3.5 medium's and Z-Image's may."""
    folder = shutil.copytree(folders(name), tmp_path / name)
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"use_dynamic_shifting": True, "base_image_seq_len": 8}))
    lexicon, pipeline = lexicon_of(folder), own_pipeline((name, folder))
    pictures = []
    for width, height in FAMILIES[name].sizes:
        pictures.append(lexicon.generate("cat dog in snow", **HOW, scheduler="euler", width=width, height=height)[0])
        assert same(pictures[-1], own_picture(pipeline, name, width, height))


def test_the_custom_pipeline_draws_the_lexicons_picture(family, lexicon, pictures, tmp_path):
    name = family[0]
    if not lexicon.t2i.resizable:
        pytest.skip("draws one size")
    lexicon.encoder.save_pretrained(tmp_path / "encoder")
    file = FILES / f"{type(lexicon.t2i).__module__.split('.')[-1]}.py"
    pipeline = own_pipeline(family, custom_pipeline=str(file), trust_remote_code=True).load_vilex(tmp_path / "encoder")
    width, height = FAMILIES[name].sizes[0]
    drawn = pipeline(
        "<cat:4> in snow", {"cat": pictures[0]}, **guided(name), num_inference_steps=3, width=width, height=height,
        generator=torch.Generator().manual_seed(7),
    ).images[0]  # fmt: skip
    how = {
        **HOW,
        "guidance": FAMILIES[name].guidance,
        "scheduler": FAMILIES[name].scheduler,
        "width": width,
        "height": height,
    }
    assert same(drawn, lexicon.generate("<cat:4> in snow", {"cat": pictures[0]}, **how)[0])


def test_parts_that_wait_draw_other_sizes_too(lexicon, family):
    if not lexicon.t2i.resizable:
        pytest.skip("draws one size")
    width, height = FAMILIES[family[0]].sizes[0]
    how = {**HOW, "steps": 2, "width": width, "height": height}
    waiting = VisualLexicon(lexicon.encoder, load_t2i(family[1]).offload("cpu", "model"))
    assert same(waiting.generate("cat", **how)[0], lexicon.generate("cat", **how)[0])


@pytest.fixture
def lexicon_of(tower_folder):
    def make(folder):
        t2i = load_t2i(folder)
        return VisualLexicon(
            ViLexEncoder.from_tower(str(tower_folder), width=t2i.width, num_tokens=8, blocks=1, heads=1), t2i
        )

    return make


def test_the_nearest_size_is_drawn_and_said(folders, lexicon_of):
    lexicon = lexicon_of(folders("flux"))
    with pytest.warns(SizeWarning, match="size 25x18: drawn as 24x20, in multiples of 4 pixels"):
        assert lexicon.generate("cat", steps=1, width=25, height=18)[0].size == (24, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SizeWarning)
        assert lexicon.generate("cat", steps=1, width=24)[0].size == (24, 16)  # the other side is its own
        assert lexicon.generate("cat", steps=1)[0].size == (16, 16)
        drawn = lexicon.reconstruct(torch.randn(2, 8, lexicon.t2i.width), steps=1, height=24)
        assert [one.size for one in drawn] == [(16, 24)] * 2


@pytest.mark.parametrize("size", [0, -8, 7, 8193, 10**30, 24.5, "24", True, None])
def test_sizes_that_are_none_are_named(size, folders, lexicon_of):
    lexicon = lexicon_of(folders("sd1"))
    if size is None:
        assert lexicon.generate("cat", steps=1, width=np.int64(24), height=None)[0].size == (24, 16)
        return
    for name in ("width", "height"):
        with pytest.raises(InputError, match=f"{name}: expected a whole number from 8 to 8192, got"):
            lexicon.generate("cat", steps=1, **{name: size})
