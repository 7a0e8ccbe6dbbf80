"""PRX: words are cleaned as its pipeline does, and both of its auto-encoders are read."""

import json
import shutil
import sys

import pytest
import torch
from diffusers import PRXPipeline

from tests.conformance.common import word_tokens
from tests.drawings import same
from tests.families import deep_compression, prx
from vilex.encoder import ViLexEncoder
from vilex.extras import MissingPackage
from vilex.guidance import Guidance
from vilex.lexicon import VisualLexicon
from vilex.t2i import load_t2i, shape_of
from vilex.t2i.prx import _cleaner

WRITTEN = [
    "A (red) DOG!!!",
    "cat & dog, see https://snow.com/x.png #42",
    "photo   of\nsnow &amp;",
    "caf\u00e9 \u00abstyle\u00bb",
]


@pytest.fixture(scope="module", params=["FLUX.1's", "deep compression"])
def folder(request, tmp_path_factory):
    return prx(tmp_path_factory.mktemp("prx") / "base", deep_compression() if request.param[0] == "d" else None)


@pytest.mark.parametrize("text", WRITTEN)
def test_words_are_cleaned_as_in_the_pipeline(folder, text):
    t2i, pipeline = load_t2i(folder), PRXPipeline.from_pretrained(folder)
    ids, mask = pipeline._tokenize_prompts([text], "cpu")
    assert [*t2i.frame.before, *t2i.frame.ids(text)] == ids[mask].tolist()
    assert t2i.frame.ids(f" {text}")[1:] == t2i.frame.ids(text, inside=True)[1:] != t2i.frame.ids("cat")


def test_nothing_is_left_of_an_address(folder):
    frame = load_t2i(folder).frame
    assert frame.ids("https://snow.com") == frame.ids(" ") == []


def test_pictures_are_the_pipelines(folder, tower_folder):
    t2i = load_t2i(folder)
    assert shape_of(folder).latent_shape == t2i.latent_shape == (4, 8, 8) and t2i.image_size == 16
    lexicon = VisualLexicon(ViLexEncoder.from_tower(str(tower_folder), width=32, num_tokens=2, blocks=1, heads=1), t2i)
    expected = PRXPipeline.from_pretrained(folder)(
        "Cat DOG, in snow!", num_inference_steps=3, guidance_scale=2.5, use_resolution_binning=False,
        generator=torch.Generator().manual_seed(7),
    ).images[0]  # fmt: skip
    tokens = {"v": word_tokens(t2i, ["CAT", " dog"])}
    for prompt in ("Cat DOG, in snow!", "<v:2>, in snow!"):
        given = tokens if "<" in prompt else {}
        drawn = lexicon.generate(prompt, given, guidance=Guidance(2.5), seed=7, steps=3, scheduler="euler")[0]
        assert same(drawn, expected) == (given == {})  # a comma of its own is cleaned away


def test_a_folder_that_diffusers_saved_again_is_known(folder, tmp_path):
    """diffusers (0.42) then says that the text encoder's class is its own."""
    copied = shutil.copytree(folder, tmp_path / "again")
    file = copied / "model_index.json"
    index = json.loads(file.read_text()) | {"text_encoder": ["diffusers", "T5GemmaEncoder"]}
    file.write_text(json.dumps(index))
    assert shape_of(copied).sizes == shape_of(folder).sizes


def test_without_ftfy_one_line_names_the_extra(folder, monkeypatch):
    t2i = load_t2i(folder)
    _cleaner.cache_clear()
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(MissingPackage, match=r'^ftfy is not installed; pip install "vilex\[prx\]"$'):
        t2i.word("cat")
