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

import torch
from torch import Tensor

from vilex.errors import InputError
from vilex.t2i.base import Condition, FrozenT2I
from vilex.t2i.schedule import alpha_bars, check_levels, num_levels


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
        self.levels = num_levels(config)
        if self.kind != "flow":
            self.alpha_bar = alpha_bars(config).to(t2i.device)

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
        return (level * self.levels).long().clamp_max(self.levels - 1)  # a share just under 1 may round to it

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
