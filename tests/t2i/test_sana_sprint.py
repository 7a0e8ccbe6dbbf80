"""Sana Sprint: its pipeline's angles as shares of noise, its own scheduler where diffusers asks for one."""

import pytest
import torch
from diffusers import SCMScheduler

from tests.families import sana
from vilex.prompt import parse
from vilex.sample import make_scheduler
from vilex.t2i import load_t2i


@pytest.fixture(scope="module")
def t2i(tmp_path_factory):
    return load_t2i(sana(tmp_path_factory.mktemp("sprint") / "base", sprint=True))


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_noise_levels_are_the_pipelines_angles(t2i, steps):
    own, scheduler = SCMScheduler(), make_scheduler("euler", t2i.scheduler_config)
    own.set_timesteps(steps, **({} if steps == 2 else {"intermediate_timesteps": None}))
    t2i.prepare(scheduler, steps)
    shares = own.timesteps.sin() / (own.timesteps.sin() + own.timesteps.cos())
    assert torch.allclose(scheduler.sigmas, shares, atol=1e-5) and scheduler.sigmas[0] == 1 and len(shares) == steps + 1
    assert torch.allclose(scheduler.timesteps, 1000 * shares[:-1], atol=0.01)


def test_diffusers_gets_its_own_scheduler(t2i):
    assert isinstance(t2i.components()["scheduler"], SCMScheduler) and t2i.prediction_type == "flow"


def test_what_it_was_guided_by_is_heard(t2i):
    x, t = torch.randn(1, *t2i.latent_shape), torch.tensor([500])
    with torch.no_grad():
        condition = t2i.read([parse("cat")], [{}])
        one = t2i.predict(x, t, condition)
        t2i.distilled_guidance = 1.0
        other = t2i.predict(x, t, condition)
    del t2i.distilled_guidance
    assert t2i.distilled_guidance == 4.5 and not torch.allclose(one, other, atol=1e-6)
