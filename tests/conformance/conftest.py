"""Every family, one after the other, and a lexicon that speaks to it."""

from functools import wraps

import pytest
import torch
from diffusers import SanaSprintPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage

from tests.families import FAMILIES
from vilex.encoder import ViLexEncoder
from vilex.lexicon import VisualLexicon
from vilex.t2i import load_t2i

SPRINT = SanaSprintPipeline.__call__


@pytest.fixture(scope="package")
def folders(tmp_path_factory):
    """Every family's folder, made when it is first asked for."""
    made = {}

    def folder(name):
        if name not in made:
            made[name] = FAMILIES[name].make(tmp_path_factory.mktemp("family") / name)
        return made[name]

    return folder


class _WithoutLengths:
    """torch, for a pipeline that brings what is guided back to the length of what is not; here it stays."""

    def __getattr__(self, name):
        return getattr(torch, name)

    def norm(self, *args, **how):
        return torch.ones(())


@wraps(SPRINT)
def _sprint(pipeline, *args, num_inference_steps=2, **how):
    """Sana Sprint's pipeline, which wants to be told that only two steps have an angle of their own between them."""
    between = {} if num_inference_steps == 2 else {"intermediate_timesteps": None}
    return SPRINT(pipeline, *args, num_inference_steps=num_inference_steps, **between, **how)


@pytest.fixture(params=FAMILIES)
def family(request, folders, monkeypatch):
    """Name and folder. Guidance is the plain sum everywhere: Qwen-Image's pipeline adds a rule of its own to it."""
    monkeypatch.setattr(SanaSprintPipeline, "__call__", _sprint)
    monkeypatch.setattr(pipeline_qwenimage, "torch", _WithoutLengths())
    return request.param, folders(request.param)


@pytest.fixture
def lexicon(family, tower_folder):
    t2i = load_t2i(family[1])
    torch.manual_seed(5)
    encoder = ViLexEncoder.from_tower(str(tower_folder), width=t2i.width, num_tokens=8, blocks=1, heads=1)
    encoder.pooler.match_vocabulary(*t2i.lookups)
    return VisualLexicon(encoder, t2i)
