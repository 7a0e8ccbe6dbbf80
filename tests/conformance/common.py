"""Image tokens that are words, diffusers' own pipelines."""

import pytest
import torch
from diffusers import DiffusionPipeline

from tests.families import FAMILIES


def word_tokens(t2i, words):
    """Words as an image's tokens would be: every text encoder's own embedding of each, side by side."""
    return torch.stack([t2i.word(word) for word in words])


def own_pipeline(family, **how):
    """diffusers' pipeline of a family (name and folder); where there is none, the test is skipped."""
    name, folder = family
    if not FAMILIES[name].cfg:
        pytest.skip("diffusers has no pipeline of this family")
    pipeline = DiffusionPipeline.from_pretrained(folder, **how, **dict.fromkeys(FAMILIES[name].absent))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def guided(name):
    """A pipeline's arguments for its guidance weight where both prompts come as embeddings."""
    given = FAMILIES[name].own
    return {key: value for key, value in given.items() if key != "negative_prompt"}
