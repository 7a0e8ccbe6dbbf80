"""The frozen model's own denoising loss: noise a picture, let the model predict, compare with the target.

Noise levels t = 0 .. T - 1 of eps- and v-models (Ho et al., arXiv 2006.11239, equation 4; Salimans and Ho,
arXiv 2202.00512, appendix D), with abar_t the product of 1 - beta up to t:

    x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) noise
    target = noise    or    v = sqrt(abar_t) noise - sqrt(1 - abar_t) x0

Levels of flow models (Liu et al., arXiv 2209.03003; Esser et al., arXiv 2403.03206), with s = t / T the share of noise:

    x_t = (1 - s) x0 + s noise
    target = noise - x0

    loss = || target - frozen(x_t, t, condition) ||^2

Levels, noise, x_t, target and loss are float32 whatever the frozen parts are: in bfloat16 sqrt(1 - abar_0) is 0.
Which target and which levels is for the model's scheduler configuration to say.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from vilex.errors import InputError
from vilex.t2i.base import Condition, FrozenT2I

LEVELS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
FLOW_LEVELS = ("num_train_timesteps", "shift", "flow_shift", "use_dynamic_shifting", "base_shift", "max_shift")
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


class DenoisingLoss:
    """|| target - frozen(x_t, t, condition) ||^2 of each image.

    Attributes:
        kind: of the target: `epsilon`, `v_prediction` or `flow`.
        levels: T, how many noise levels there are.
        alpha_bar: [T] in float32, of eps- and v-models.
    Raises:
        InputError: the model predicts something else, or its scheduler configuration has a key whose meaning for
            the noise levels is not known here.
    """

    def __init__(self, t2i: FrozenT2I):
        self.t2i, self.kind = t2i, t2i.prediction_type
        if self.kind not in ("epsilon", "v_prediction", "flow"):
            raise InputError(f"base model: prediction type '{self.kind}' is not supported; use an eps, v or flow model")
        config = t2i.scheduler_config
        check_levels(config, self.kind)
        self.levels: int = _with_defaults(config).get("num_train_timesteps", 1000)
        if self.kind != "flow":
            known = {key: value for key, value in _with_defaults(config).items() if key in LEVELS}
            self.alpha_bar = DDPMScheduler(**known).alphas_cumprod.to(t2i.device, torch.float32)

    def __call__(self, x0: Tensor, noise: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """x0, noise: [B, c, h, w], t: [B] -> [B] in float32, a mean over each image's values."""
        x_t, target = self.noised(x0, noise, t)
        prediction = self.t2i.predict(x_t, t, condition)[:, : x0.shape[1]].float()  # a learned variance may follow
        return (prediction - target).square().mean((1, 2, 3))

    def noised(self, x0: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """x_t and what the model should predict of it, both [B, c, h, w] in float32."""
        x0, noise = x0.float(), noise.float()
        if self.kind == "flow":
            share = (t.float() / self.levels).view(-1, 1, 1, 1)
            return (1 - share) * x0 + share * noise, noise - x0
        alpha_bar = self._alpha_bar(t).view(-1, 1, 1, 1)
        signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        x_t = signal * x0 + sigma * noise
        return x_t, noise if self.kind == "epsilon" else signal * noise - sigma * x0

    def times(self, level: Tensor) -> Tensor:
        """Shares of the noise levels, [B] in 0..1, to timesteps [B]."""
        if self.kind == "flow":
            return self.t2i.shifted(level) * self.levels
        return (level * self.levels).long()

    def min_snr(self, t: Tensor, gamma: float) -> Tensor:
        """Weights [B] (Hang et al., arXiv 2303.09556); of ones if gamma is 0.

        With snr = abar / (1 - abar): min(snr, gamma) / snr for eps, min(snr, gamma) / (snr + 1) for v.

        Raises:
            InputError: the model is a flow model.
        """
        if not gamma:
            return torch.ones(len(t), device=t.device)
        if self.kind == "flow":
            raise InputError("objective.min_snr_gamma: has no meaning for a flow model; leave it at 0")
        alpha_bar = self._alpha_bar(t)
        snr = alpha_bar / (1 - alpha_bar)
        if self.kind == "epsilon":
            return gamma / snr.clamp_min(gamma)  # min(snr, gamma) / snr, which is 1 where snr is 0
        return snr.clamp_max(gamma) / (snr + 1)

    def _alpha_bar(self, t: Tensor) -> Tensor:
        self.alpha_bar = self.alpha_bar.to(t.device)
        return self.alpha_bar[t]


def check_levels(config: Mapping[str, Any], kind: str) -> None:
    """Refuse a scheduler configuration with a key that could mean other noise levels than those trained on here.

    Raises:
        InputError: names the key.
    """
    known = {*LEVELS, *FLOW_LEVELS, *SAMPLING, "prediction_type"}
    if kind != "flow":
        known.remove("use_flow_sigmas")
    for key, value in config.items():
        if not key.startswith("_") and key not in known and value not in (None, False, NEUTRAL.get(key)):
            raise InputError(
                f"base model: scheduler_config.json: {key} = {value!r} is not supported in training; "
                "use a base model whose noise levels are set by betas alone, or by a flow model's shift"
            )


def _with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's configuration with what it leaves to its class, whose defaults differ (LCM's betas are its own)."""
    kind = getattr(diffusers, str(config.get("_class_name")), DDPMScheduler)
    parameters = inspect.signature(kind.__init__).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}
    return {**defaults, **{key: value for key, value in config.items() if not key.startswith("_")}}
