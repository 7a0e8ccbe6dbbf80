"""Krea 2: padding behind the template instead of within it changes nothing; the distilled model has one shift."""

import json
import shutil

import pytest
import torch
from diffusers import Krea2Pipeline
from transformers import Qwen3VLForConditionalGeneration

from tests.drawings import same
from tests.families import KREA_POSITIONS, krea_2
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.guidance import Guidance
from vilex.lexicon import VisualLexicon
from vilex.prompt import parse
from vilex.t2i import load_t2i


@pytest.fixture
def folder(tmp_path):
    return krea_2(tmp_path / "base")


def rewrite(folder, **settings):
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def test_words_are_read_as_in_the_pipeline(folder):
    texts = ["cat", "a red dog in the snow", ""]
    pipeline, t2i = Krea2Pipeline.from_pretrained(folder), load_t2i(folder)
    with torch.no_grad():
        sequence, mask = pipeline.get_text_hidden_states(texts, KREA_POSITIONS)
        ours = t2i.read([parse(text) for text in texts], [{}] * 3)
    assert ours.sequence.shape == sequence.shape and not torch.equal(mask, ours.mask)  # its padding is within
    for row in range(3):
        assert torch.allclose(ours.sequence[row, ours.mask[row]], sequence[row, mask[row]], atol=1e-5)


def test_the_language_model_may_come_with_its_head(folder):
    t2i = load_t2i(folder)
    whole = Qwen3VLForConditionalGeneration(t2i.text_encoder.config)
    whole.model.load_state_dict(t2i.text_encoder.state_dict())
    shutil.rmtree(folder / "text_encoder")
    whole.save_pretrained(folder / "text_encoder")
    rewrite(folder, text_encoder=["transformers", "Qwen3VLForConditionalGeneration"])
    with torch.no_grad():
        one, two = (own.read([parse("a cat")], [{}]).sequence for own in (t2i, load_t2i(folder)))
    assert torch.equal(one, two)


def test_the_distilled_models_shift_is_one_number(folder, tower_folder):
    drawn = []
    for distilled in (False, True):
        rewrite(folder, is_distilled=distilled)
        t2i = load_t2i(folder)
        encoder = ViLexEncoder.from_tower(str(tower_folder), width=32, num_tokens=2, blocks=1, heads=1)
        how = {"guidance": Guidance(2.5), "seed": 7, "steps": 3, "scheduler": "euler"}
        drawn += VisualLexicon(encoder, t2i).generate("cat", **how)
        expected = Krea2Pipeline.from_pretrained(folder)(
            "cat", num_inference_steps=3, guidance_scale=1.5, width=16, height=16, max_sequence_length=KREA_POSITIONS,
            generator=torch.Generator().manual_seed(7),
        ).images[0]  # fmt: skip
        assert same(drawn[-1], expected)
    assert not same(*drawn)


def test_another_patch_size_is_refused(folder):
    rewrite(folder, patch_size=4)
    with pytest.raises(InputError, match="patch_size 4 is not supported; expected 2"):
        load_t2i(folder)
