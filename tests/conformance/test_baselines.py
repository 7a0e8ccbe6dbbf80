"""Baselines in ViLex's place, in every family whose parts allow them."""

import pytest
import torch

from tests.conformance.common import own_pipeline
from tests.drawings import same
from tests.families import FAMILIES
from vilex.baselines.dreambooth import adapted, add_adapter, save_adapter, tuned
from vilex.baselines.inversion import invert
from vilex.baselines.tuning import TuningSettings
from vilex.errors import InputError
from vilex.lexicon import VisualLexicon
from vilex.train.loop import train

SPOKEN = (
    "sd1",
    "sd2",
    "sdxl",
    "sdxl-turbo",
    "sd3.5-without-t5",
    "flux2-klein",
    "chroma",
    "qwen-image",
    "pixart-sigma",
    "prx",
    "sana",
    "sana-sprint",
    "lumina2",
    "krea2",
    "if",
    "z-image",
    "pixels",
)  # one vocabulary
DECOUPLED = ("sd1", "sd2", "sdxl", "sdxl-turbo", "pixels")  # cross-attention over the text


def settings(folder, method):
    model = {"num_tokens": 4, "blocks": 1, "heads": 1, "base": str(folder), "method": method}
    plain = {"tail_drop": "off", "caption_share": 0.0}
    return {"model": model, "objective": plain, "run": {"steps": 2, "batch_size": 2}}


def test_de_diffusion_says_words_of_the_text_encoders(family, configure, pictures):
    name, folder = family
    config = configure(**settings(folder, "de-diffusion"))
    if name not in SPOKEN:
        with pytest.raises(InputError, match="its text encoders have different words"):
            train(config, quiet=True)
        return
    lexicon = VisualLexicon.from_pretrained(train(config, quiet=True))
    tokens, table = lexicon.encode(pictures[:2]), lexicon.t2i.vocabulary
    ids = torch.cdist(tokens, table.expand(2, -1, -1)).argmin(-1)
    assert torch.equal(tokens, table[ids]) and not set(ids.flatten().tolist()) & set(lexicon.t2i.wordless_ids)
    assert lexicon.reconstruct(pictures[:1], steps=1)[0].size == (lexicon.t2i.image_size,) * 2


def test_ip_adapter_reads_past_the_text_encoder(family, configure, pictures):
    name, folder = family
    config = configure(**settings(folder, "ip-adapter"))
    if name not in DECOUPLED:
        with pytest.raises(InputError, match="ip-adapter needs cross-attention over the text"):
            train(config, quiet=True)
        return
    lexicon = VisualLexicon.from_pretrained(train(config, quiet=True))
    drawn, other = lexicon.generate(["<a> in snow", "<b> in snow"], {"a": pictures[0], "b": pictures[1]}, steps=2)
    words = lexicon.generate("in snow", steps=2)[0]
    base = lexicon.generate("<a> in snow", {"a": pictures[0]}, weights={"a": 0.0}, steps=2)[0]
    assert drawn.tobytes() != words.tobytes() and base.tobytes() == words.tobytes()
    assert drawn.tobytes() != other.tobytes()


def test_dreambooth_learns_in_any_denoiser_and_is_gone_afterwards(family, lexicon, pictures, tmp_path):
    name = family[0]
    how = {"seed": 7, "steps": 2, "guidance": FAMILIES[name].guidance, "scheduler": FAMILIES[name].scheduler}
    before = lexicon.generate("sks dog", **how)[0]
    if name in ("pixart-sigma", "prx"):
        with pytest.raises(InputError, match="has no low-rank weights"):
            add_adapter(lexicon.t2i, 2)
        return
    with tuned(lexicon, pictures[:2], "dog", TuningSettings(steps=6, lr=3e-2, batch_size=2), rank=2, prior_images=2):
        inside = lexicon.generate("sks dog", **how)[0]
        save_adapter(lexicon.t2i, tmp_path)
    after = lexicon.generate("sks dog", **how)[0]
    assert same(after, before) and not same(inside, before)
    with adapted(lexicon.t2i, tmp_path):
        assert same(lexicon.generate("sks dog", **how)[0], inside)
    assert same(lexicon.generate("sks dog", **how)[0], before)
    if FAMILIES[name].cfg:
        pipeline = own_pipeline(family)
        pipeline.load_lora_weights(tmp_path)
        size = lexicon.t2i.image_size
        expected = pipeline(
            prompt="sks dog", num_inference_steps=2, height=size, width=size, **FAMILIES[name].own,
            generator=torch.Generator().manual_seed(7),
        ).images[0]  # fmt: skip
        assert same(expected, inside)


def test_textual_inversion_finds_a_word_for_every_text_encoder(lexicon, pictures):
    start = lexicon.t2i.word("dog")
    word, _ = invert(lexicon.t2i, pictures[:2], "dog", settings=TuningSettings(steps=2, lr=1e-2, batch_size=2))
    first = 0
    for lookup in lexicon.t2i.lookups:
        columns = slice(first, first := first + lookup.shape[1])
        assert (word[0, columns] - start[columns]).abs().max() > 1e-3
    assert word.shape == (1, lexicon.t2i.width)
