"""How a sampler steps, by choice; the noise levels stay the frozen model's own."""

import json

import diffusers
import numpy as np
import pytest
import torch

from tests.drawings import same
from vilex.errors import InputError
from vilex.lexicon import VisualLexicon
from vilex.sample import make_scheduler
from vilex.scheduler_options import name_and_options

LEVELS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD = {"_class_name": "DDIMScheduler", **LEVELS}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}


def sigmas(scheduler, steps=8):
    scheduler.set_timesteps(steps)
    return scheduler.sigmas


def test_options_are_those_of_diffusers():
    ours = make_scheduler("dpm++:use_karras_sigmas=true, solver_order=3,timestep_spacing=trailing", SD)
    theirs = diffusers.DPMSolverMultistepScheduler.from_config(
        {"clip_sample": False, **SD}, use_karras_sigmas=True, solver_order=3, timestep_spacing="trailing"
    )
    assert torch.equal(sigmas(ours), sigmas(theirs)) and ours.config.solver_order == 3
    assert not torch.equal(sigmas(make_scheduler("dpm++", SD)), sigmas(ours))


def test_a_scheduler_from_python_steps_as_it_would_there():
    given = diffusers.EulerDiscreteScheduler.from_config({"clip_sample": False, **SD}, use_karras_sigmas=True)
    made = make_scheduler(given, SD)
    assert made is not given and torch.equal(sigmas(made), sigmas(given))


def test_a_flow_model_takes_a_shift_where_its_own_is_fixed():
    for name in ("euler:shift=6", "dpm++:shift=6.0"):
        levels = sigmas(make_scheduler(name, FLOW), 4)
        assert not torch.equal(levels, sigmas(make_scheduler(name.partition(":")[0], FLOW), 4))
    assert make_scheduler("dpm++:shift=6.0", FLOW).config.flow_shift == 6.0
    given = diffusers.FlowMatchEulerDiscreteScheduler(shift=6.0)
    assert torch.equal(sigmas(make_scheduler(given, FLOW)), sigmas(given))
    given = diffusers.UniPCMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=6.0, final_sigmas_type="zero"
    )
    assert torch.equal(sigmas(make_scheduler(given, FLOW)), sigmas(given))


@pytest.mark.parametrize(
    ("given", "config", "message"),
    [
        ("dpm++:", SD, None),
        ("dpm++:karras", SD, "expected NAME:KEY=VALUE"),
        ("dpm++:=true", SD, "expected NAME:KEY=VALUE"),
        ("dpm++:solver_order=2,solver_order=3", SD, "solver_order is given twice"),
        ("dpm++:use_karas_sigmas=true", SD, "has no option 'use_karas_sigmas'; use use_karras_sigmas"),
        ("ddim:use_karras_sigmas=true", SD, "has no option 'use_karras_sigmas'; use one of"),
        ("dpm++:beta_start=0.1", SD, "has no option 'beta_start'"),
        ("dpm++:prediction_type=sample", SD, "has no option 'prediction_type'"),
        ("dpm++:use_karras_sigmas=1", SD, "use_karras_sigmas is 1; expected true or false"),
        ("dpm++:solver_order=two", SD, "solver_order is 'two'; expected a whole number"),
        ("euler:sigma_min=little", SD, "sigma_min is 'little'; expected a number"),
        ("euler:sigma_max=NaN", SD, "sigma_max is nan; expected a number"),
        ("dpm++:use_karras_sigmas=true,use_exponential_sigmas=true", SD, "Only one of"),
        ("euler:shift=2", SD, "has no option 'shift'"),
        ("euler:shift=2", {**FLOW, "use_dynamic_shifting": True}, "has no option 'shift'"),
        ("magic:solver_order=2", SD, "unknown; use one of"),
        (diffusers.DDIMScheduler(beta_start=0.1), SD, "has beta_start 0.1, the base model 0.00085"),
        (diffusers.FlowMatchEulerDiscreteScheduler(), SD, "follows flow models alone"),
        (diffusers.DDIMScheduler(), FLOW, "cannot follow a flow model"),
        (diffusers.FlowMatchEulerDiscreteScheduler(500), FLOW, "num_train_timesteps 500, the base model 1000"),
        (diffusers.DDIMScheduler(trained_betas=np.full(1000, 0.01), **LEVELS), SD, "has trained_betas array"),
        (diffusers.VQDiffusionScheduler(num_vec_classes=4), SD, "num_train_timesteps 100, the base model 1000"),
        (7, SD, "scheduler: expected a text"),
    ],
)
def test_what_cannot_be_is_one_line(given, config, message):
    if message is None:
        assert name_and_options(given, config) == ("dpm++", {})
        return
    with pytest.raises(InputError, match=message):
        make_scheduler(given, config)


@pytest.mark.parametrize(
    "given",
    [
        "dpm++:solver_order=0",
        "ddim:steps_offset=1000",
        "dpm++:thresholding=true,dynamic_thresholding_ratio=5",
        "LCMScheduler:original_inference_steps=0",
        "unipc:disable_corrector=0",
        "unipc:solver_p=fast",
    ],
)
def test_what_a_sampler_cannot_step_with_is_one_line(model_folder, given):
    with pytest.raises(InputError, match=r"scheduler '\w+': .*; give it other options"):
        VisualLexicon.from_pretrained(model_folder).generate("a cat", steps=4, scheduler=given)


def test_pictures_differ_by_options_alone(model_folder):
    lexicon = VisualLexicon.from_pretrained(model_folder)
    config = json.loads(json.dumps(lexicon.t2i.scheduler_config))
    given = diffusers.DPMSolverMultistepScheduler.from_config(config, use_karras_sigmas=True)
    one, other, third = (
        lexicon.generate("a cat", steps=4, scheduler=one)[0] for one in ("dpm++", "dpm++:use_karras_sigmas=true", given)
    )
    assert same(other, third) and not same(one, other, within=0)
