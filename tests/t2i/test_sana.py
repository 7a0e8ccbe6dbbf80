"""Sana: the pipeline's instruction stands before prompts, and every sampler follows its shift."""

import pytest
import torch
from diffusers import SanaPipeline

from tests.families import POSITIONS, sana
from vilex.prompt import parse
from vilex.sample import make_scheduler
from vilex.t2i import load_t2i
from vilex.t2i.sana import instruction


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sana(tmp_path_factory.mktemp("sana") / "base")


def read_by_both(folder, texts, **how):
    pipeline, t2i = SanaPipeline.from_pretrained(folder), load_t2i(folder)
    with torch.no_grad():
        expected = pipeline.encode_prompt(
            texts, do_classifier_free_guidance=False, max_sequence_length=POSITIONS, **how
        )
        return expected[:2], t2i.read([parse(text, emphasis=False) for text in texts], [{}] * len(texts))


def test_words_are_read_behind_the_instruction(folder):
    texts = ["Cat", "a RED dog, in the snow!", "2 cats"]
    (sequence, mask), ours = read_by_both(folder, texts, complex_human_instruction=instruction().split("\n"))
    assert torch.equal(mask.bool(), ours.mask)
    assert torch.allclose(sequence[ours.mask], ours.sequence[ours.mask], atol=1e-5)


def test_nothing_is_read_alone(folder):
    (sequence, mask), ours = read_by_both(folder, [""], complex_human_instruction=None)
    assert torch.equal(mask.bool(), ours.mask) and ours.mask.sum() == 1
    assert torch.allclose(sequence[ours.mask], ours.sequence[ours.mask], atol=1e-5)


def test_images_have_the_room_of_all_positions_but_one(folder):
    t2i = load_t2i(folder)
    assert t2i.frame.room == POSITIONS - 1
    tokens = torch.randn(POSITIONS - 1, t2i.width)
    condition = t2i.read([parse(f"<v:{POSITIONS - 1}>")], [{"v": tokens}])
    assert condition.mask.all() and condition.sequence.shape == (1, POSITIONS, 32)


@pytest.mark.parametrize("name", ["dpm++", "unipc", "euler", "heun"])
def test_samplers_have_its_shift(folder, name):
    t2i = load_t2i(folder)
    scheduler = make_scheduler(name, t2i.scheduler_config)
    t2i.prepare(scheduler, 4)
    assert scheduler.config.get("shift", scheduler.config.get("flow_shift")) == 3.0
    assert scheduler.sigmas[0] > 0.99 and scheduler.sigmas.max() <= 1
