"""The frozen model's own denoising loss: noise an image, let the model predict, compare with the target.

The target (noise, velocity or flow) and the noise levels are those of the model's scheduler configuration.
"""

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor

from vilex.errors import InputError
from vilex.t2i.base import Condition, FrozenT2I


class DenoisingLoss:
    """|| target - frozen(x_t, t, condition) ||^2 of each image.

    Attributes:
        levels: T, how many noise levels there are.
    Raises:
        InputError: the model predicts something else.
    """

    def __init__(self, t2i: FrozenT2I):
        self.t2i, self.kind = t2i, t2i.prediction_type
        if self.kind not in ("epsilon", "v_prediction", "flow"):
            raise InputError(f"base model: prediction type '{self.kind}' is not supported; use an eps, v or flow model")
        keys = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")
        known = {key: t2i.scheduler_config[key] for key in keys if key in t2i.scheduler_config}
        if self.kind == "flow":
            known.pop("prediction_type", None)
        self.schedule = DDPMScheduler(**known)
        self.levels = self.schedule.config.num_train_timesteps

    def __call__(self, x0: Tensor, noise: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """x0, noise: [B, c, h, w], t: [B] -> [B], a mean over each image's values."""
        x_t, target = self.noised(x0, noise, t)
        prediction = self.t2i.predict(x_t, t, condition)[:, : x0.shape[1]].float()  # a learned variance may follow
        return (prediction - target).square().mean((1, 2, 3))

    def noised(self, x0: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """x_t and what the model should predict of it."""
        if self.kind == "flow":
            share = (t / self.levels).to(x0).view(-1, 1, 1, 1)
            return (1 - share) * x0 + share * noise, noise - x0
        x_t = self.schedule.add_noise(x0, noise, t)
        return x_t, noise if self.kind == "epsilon" else self.schedule.get_velocity(x0, noise, t)

    def times(self, level: Tensor) -> Tensor:
        """Shares of the noise levels, [B] in 0..1, to timesteps [B]."""
        if self.kind == "flow":
            return self.t2i.shifted(level) * self.levels
        return (level * self.levels).long()

    def min_snr(self, t: Tensor, gamma: float) -> Tensor:
        """Weights [B] (arXiv 2303.09556): min(snr, gamma) / snr for eps, / (snr + 1) for v; of ones if gamma is 0."""
        if not gamma:
            return torch.ones(len(t), device=t.device)
        if self.kind == "flow":
            raise InputError("objective.min_snr_gamma: has no meaning for a flow model; leave it at 0")
        snr = compute_snr(self.schedule, t)
        return snr.clamp_max(gamma) / (snr + (self.kind == "v_prediction"))
