"""Lumina-Image 2.0: its system prompt stands before prompts, and how long they are is known before the device says."""

import pytest
import torch
from diffusers import Lumina2Pipeline

from tests.families import POSITIONS, lumina_2
from vilex.prompt import parse
from vilex.t2i import load_t2i


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return lumina_2(tmp_path_factory.mktemp("lumina") / "base")


@pytest.mark.parametrize("texts", [["cat", "A red dog in the snow", "2 cats"], [""]])
def test_words_are_read_behind_the_system_prompt_and_nothing_alone(folder, texts):
    pipeline, t2i = Lumina2Pipeline.from_pretrained(folder), load_t2i(folder)
    with torch.no_grad():
        found = pipeline.encode_prompt(["cat"] if texts == [""] else texts, max_sequence_length=POSITIONS)
        sequence, mask = found[2:] if texts == [""] else found[:2]
        ours = t2i.read([parse(text) for text in texts], [{}] * len(texts))
    assert torch.equal(mask.bool(), ours.mask) and torch.equal(ours.lengths, mask.sum(1))
    assert torch.allclose(sequence[ours.mask], ours.sequence[ours.mask], atol=1e-5)


def test_the_denoiser_asks_no_device_how_long_prompts_are(folder):
    """Masks on the device say nothing of it: one that is wrong there leaves the places as they are."""
    t2i = load_t2i(folder)
    seen = []
    t2i.transformer.rope_embedder.register_forward_hook(lambda module, args, output: seen.append((args[1], output)))
    condition = t2i.read([parse("cat"), parse("a red dog")], [{}, {}])
    with torch.no_grad():
        t2i.predict(torch.randn(2, *t2i.latent_shape), torch.tensor([500, 20]), condition)
    ((mask, (*_, lengths, _)),) = seen
    assert mask is not condition.mask and lengths == condition.lengths.tolist()
