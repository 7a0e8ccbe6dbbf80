"""The noise levels that a frozen model was trained on, as its scheduler configuration says: the one place to ask.

eps- and v-models (Ho et al., arXiv 2006.11239), with abar_t the product of 1 - beta up to t, for t = 0 .. T - 1; where
the configuration says `rescale_betas_zero_snr`, abar is shifted and scaled so that abar_(T-1) = 0 (Lin et al., arXiv
2305.08891, algorithm 1):

    x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) noise

Flow models (Esser et al., arXiv 2403.03206), with s in 0..1 the share of noise, shifted by c or, where larger pictures
get more noise, by e^mu:

    x_s = (1 - s) x0 + s noise          s' = c s / (1 + (c - 1) s)
"""

import inspect
import math
from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from vilex.errors import InputError

LEVELS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
FLOW_LEVELS: tuple[str, ...] = (
    "num_train_timesteps",
    "shift",
    "flow_shift",
    "use_dynamic_shifting",
    "base_shift",
    "max_shift",
)
FLOW_LEVELS += ("base_image_seq_len", "max_image_seq_len", "use_flow_sigmas")
# Keys of a scheduler configuration that say how a sampler steps, not what the model was trained on.
SAMPLING = {
    "algorithm_type", "clip_sample", "clip_sample_range", "corrector_order", "disable_corrector",
    "dynamic_thresholding_ratio", "eta", "euler_at_final", "final_sigmas_type", "interpolation_type",
    "lambda_min_clipped", "lower_order_final", "original_inference_steps", "predict_x0", "predictor_order",
    "sample_max_value", "scale_factors", "set_alpha_to_one", "shift_terminal", "sigma_max", "sigma_min",
    "skip_prk_steps", "solver_order", "solver_p", "solver_type", "steps_offset", "stochastic_sampling",
    "tau_func", "thresholding", "timestep_scaling", "timestep_spacing", "upscale_mode", "use_beta_sigmas",
    "use_exponential_sigmas", "use_karras_sigmas", "use_lu_lambdas", "variance_type",
}  # fmt: skip
NEUTRAL = {"timestep_type": "discrete", "time_shift_type": "exponential"}


def is_flow(config: Mapping[str, Any]) -> bool:
    """Whether a scheduler configuration is a flow model's: x_t = (1 - s) x0 + s noise, predicting noise - x0."""
    return str(config.get("_class_name")).startswith("FlowMatch") or config.get("prediction_type") == "flow_prediction"


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's configuration with what it leaves to its class, whose defaults differ (LCM's betas are its own)."""
    kind = getattr(diffusers, str(config.get("_class_name")), DDPMScheduler)
    parameters = inspect.signature(kind.__init__).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}
    return {**defaults, **{key: value for key, value in config.items() if not key.startswith("_")}}


def level_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What sets the noise levels of an eps- or v-model, as arguments of any diffusers scheduler that knows them."""
    return {key: value for key, value in with_defaults(config).items() if key in LEVELS}


def num_levels(config: Mapping[str, Any]) -> int:
    """T, how many noise levels there are."""
    return int(with_defaults(config).get("num_train_timesteps", 1000))


def alpha_bars(config: Mapping[str, Any]) -> Tensor:
    """abar of an eps- or v-model, [T] in float32."""
    return DDPMScheduler(**level_settings(config)).alphas_cumprod.to(torch.float32)


def check_levels(config: Mapping[str, Any], kind: str) -> None:
    """Refuse a scheduler configuration with a key that could mean other noise levels than those trained on here.

    Raises:
        InputError: names the key.
    """
    known = {*LEVELS, *FLOW_LEVELS, *SAMPLING, "prediction_type"}
    if kind != "flow":
        known.remove("use_flow_sigmas")
    for key, value in config.items():
        if not key.startswith("_") and key not in known and not is_neutral(key, value):
            raise InputError(
                f"base model: scheduler_config.json: {key} = {value!r} is not supported in training; "
                "use a base model whose noise levels are set by betas alone, or by a flow model's shift"
            )


def is_neutral(key: str, value: Any) -> bool:
    """Whether a key of a scheduler configuration changes nothing."""
    return value is None or value is False or value == NEUTRAL.get(key)


def sigma_offset(config: Mapping[str, Any], positions: int) -> float:
    """mu, by which larger pictures get more noise: linear in the number of image positions."""
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return least + (positions - low) * (most - least) / (high - low)


def shift_level(level: Tensor, config: Mapping[str, Any], positions: int) -> Tensor:
    """s' of levels s, [B] each, with c the configuration's shift, or e^mu where it depends on resolution."""
    dynamic = config.get("use_dynamic_shifting")
    shift = math.exp(sigma_offset(config, positions)) if dynamic else config.get("shift", config.get("flow_shift", 1.0))
    return shift_by(level, shift)


def shift_by(level: Tensor, shift: float) -> Tensor:
    """s' of levels s, [B] each, by c."""
    return shift * level / (1 + (shift - 1) * level)


def set_steps(scheduler: Any, config: Mapping[str, Any], positions: int, **how: Any) -> None:
    """`set_timesteps` with the shift that a picture of so many positions gets, where the model asks for one.

    Args:
        config: the frozen model's own configuration, whatever the sampler's class knows of it.
    """
    if config.get("use_dynamic_shifting"):
        set_shifted_steps(scheduler, sigma_offset(config, positions), **how)
    else:
        scheduler.set_timesteps(**how)


def set_shifted_steps(scheduler: Any, mu: float, **how: Any) -> None:
    """`set_timesteps` with noise levels shifted by e^mu."""
    if "mu" in inspect.signature(scheduler.set_timesteps).parameters:
        how["mu"] = mu
    else:
        scheduler.register_to_config(shift=math.exp(mu))  # a sampler with one fixed shift
    scheduler.set_timesteps(**how)
