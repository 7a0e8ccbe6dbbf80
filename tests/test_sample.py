"""Samplers follow the frozen model's own noise levels, in float32 whatever it computes in."""

import inspect

import diffusers
import pytest
import torch

from tests.families import FAMILIES
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.guidance import PLAIN, Guidance, Mixture
from vilex.lexicon import VisualLexicon
from vilex.prompt import Prompt, parse
from vilex.sample import CLASSES, SCHEDULERS, make_scheduler, sample
from vilex.t2i import load_t2i
from vilex.t2i.schedule import alpha_bars, sigma_offset

SD = {"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ZERO_SNR = {**SD, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
DIFFUSION = [name for name in (*SCHEDULERS, *sorted(CLASSES)) if not name.startswith("FlowMatch")]


@pytest.fixture(scope="module")
def half(sd_folder, model_folder):
    encoder = ViLexEncoder.from_pretrained(model_folder)
    return VisualLexicon(encoder, load_t2i(sd_folder[2], torch.bfloat16))


def drawn(lexicon, scheduler, **how):
    """x0 of one prompt under guidance."""
    prompt = parse("cat in snow")
    guided, plain = (
        Mixture.read(lexicon.t2i, [one.branches(prompt)], [prompt], {}, Prompt(())) for one in (Guidance(7.5), PLAIN)
    )
    made = make_scheduler(scheduler, lexicon.t2i.scheduler_config)
    return sample(lexicon.t2i, made, guided, plain, PLAIN.acts, [3], **how)


@pytest.mark.parametrize("scheduler", DIFFUSION)
def test_half_precision_models_are_sampled_in_float32(half, monkeypatch, scheduler):
    seen, predict = [], half.t2i.predict

    def watched(x_t, t, condition):
        seen.append(x_t.dtype)
        output = predict(x_t, t, condition)
        assert output.dtype is torch.bfloat16
        return output

    monkeypatch.setattr(half.t2i, "predict", watched)
    x0 = drawn(half, scheduler, steps=3)
    assert {x0.dtype, *seen} == {torch.float32}
    monkeypatch.setattr(half.t2i, "predict", lambda *given: predict(*given).float())
    assert torch.equal(drawn(half, scheduler, steps=3), x0)  # what is summed and stepped was float32 before


def test_flow_models_in_half_precision_too(tmp_path, tower_folder, monkeypatch):
    t2i = load_t2i(FAMILIES["sd3.5-without-t5"].make(tmp_path / "sd3"), torch.bfloat16)
    encoder = ViLexEncoder.from_tower(str(tower_folder), width=t2i.width, num_tokens=4, blocks=1, heads=1)
    lexicon, seen, predict = VisualLexicon(encoder, t2i), [], t2i.predict
    monkeypatch.setattr(t2i, "predict", lambda x, t, c: seen.append(x.dtype) or predict(x, t, c))
    for scheduler in ("euler", "heun", "dpm++", "dpm++-sde", "unipc"):
        assert drawn(lexicon, scheduler, steps=3).dtype is torch.float32
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize("scheduler", DIFFUSION)
def test_noise_levels_that_end_in_noise_alone_are_followed_or_refused(scheduler):
    expected = alpha_bars(ZERO_SNR)
    assert expected[-1] == 0 and alpha_bars(SD)[-1] == pytest.approx(0.00466, abs=1e-4)
    kind = getattr(diffusers, SCHEDULERS.get(scheduler, scheduler))
    if "rescale_betas_zero_snr" in inspect.signature(kind.__init__).parameters:
        assert torch.allclose(make_scheduler(scheduler, ZERO_SNR).alphas_cumprod, expected, atol=1e-7)
    else:
        with pytest.raises(InputError, match=rf"{scheduler.replace('+', '.')}': .* rescale_betas_zero_snr = True"):
            make_scheduler(scheduler, ZERO_SNR)


@pytest.mark.parametrize("scheduler", DIFFUSION)
def test_what_a_configuration_leaves_to_its_class_holds_for_every_sampler(scheduler):
    made = make_scheduler(scheduler, {"_class_name": "LCMScheduler"})
    assert torch.allclose(made.alphas_cumprod, diffusers.LCMScheduler().alphas_cumprod)


@pytest.mark.parametrize(
    ("config", "scheduler", "key"),
    [
        (SD | {"snr_shift_scale": 3.0}, "ddim", "snr_shift_scale"),
        (SD | {"timestep_type": "continuous"}, "dpm++", "timestep_type"),
        (SD | {"of_next_year": "x"}, "ddim", "of_next_year"),
        (FLOW | {"shift_terminal": 0.02}, "dpm++", "shift_terminal"),
        (FLOW | {"time_shift_type": "linear"}, "heun", "time_shift_type"),
        (FLOW | {"invert_sigmas": True}, "heun", "invert_sigmas"),
    ],
)
def test_other_keys_are_refused_by_name(config, scheduler, key):
    with pytest.raises(InputError, match=rf"cannot follow the base model's {key} = .*; use "):
        make_scheduler(scheduler, config)


@pytest.mark.parametrize("key", [{"timestep_type": "continuous"}, {"sigma_max": 80.0, "use_karras_sigmas": True}])
def test_a_key_that_the_class_knows_is_honoured(key):
    made = make_scheduler("euler", SD | key)
    assert {name: made.config[name] for name in key} == key


def test_a_picture_of_more_places_gets_more_noise_from_every_flow_sampler():
    from vilex.t2i.schedule import set_steps

    config, firsts = FLOW | {"use_dynamic_shifting": True}, {}
    for scheduler in ("heun", "euler", "dpm++", "unipc"):
        for positions in (256, 4096):
            made = make_scheduler(scheduler, config)
            set_steps(made, config, positions, num_inference_steps=8)
            firsts[scheduler, positions] = float(made.sigmas[3])
        assert firsts[scheduler, 4096] > firsts[scheduler, 256] + 0.05
    made = make_scheduler("heun", config)
    set_steps(made, config, 4096, num_inference_steps=8)
    assert made.config.shift == pytest.approx(torch.tensor(sigma_offset(config, 4096)).exp().item())


@pytest.mark.parametrize(
    ("scheduler", "config", "message"),
    [
        ("DPMSolverSDEScheduler", SD, "unknown; use one of dpm"),
        ("DiffusionPipeline", SD, "unknown"),
        ("IPNDMScheduler", SD, "unknown"),
        ("", SD, "unknown"),
        ("FlowMatchEulerDiscreteScheduler", SD, "follows flow models alone"),
        ("lms", FLOW, "cannot follow a flow model"),
    ],
)
def test_schedulers_that_cannot_draw_here_are_named(scheduler, config, message):
    with pytest.raises(InputError, match=rf"scheduler '{scheduler}': {message}"):
        make_scheduler(scheduler, config)


def test_dpm_sde_needs_nothing_else_and_repeats_by_its_seeds(half):
    first, other = (drawn(half, "dpm++-sde", steps=4), drawn(half, "dpm++", steps=4))
    assert torch.equal(drawn(half, "dpm++-sde", steps=4), first) and not torch.allclose(first, other)


def test_a_single_step_that_would_see_no_noise_is_named(half):
    with pytest.raises(InputError, match=r"1 step would begin at noise level 1 of 1000; use 2 steps or more, or dpm"):
        drawn(half, "ddim", steps=1)
    assert drawn(half, "dpm++", steps=1).isfinite().all()
