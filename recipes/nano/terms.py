"""The text-to-image model's loss: v-prediction, and what may be added to it, each a published lever of a few lines.

min-SNR         weights by noise level                          Hang et al. 2023, arXiv 2303.09556
immiscible      each picture gets noise that lies near it       Li et al. 2024, arXiv 2406.12303
contrastive     v should lie far from other pictures' targets   Stoica et al. 2025, arXiv 2506.05350
alignment       an inner layer says what a teacher sees         Yu et al. 2024 (REPA), arXiv 2410.06940
"""

from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import compute_snr
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.nano.presets import TextToImagePreset
from recipes.nano.teacher import WIDTH, cached_features

SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,  # the last level is noise alone (Lin et al. 2023, arXiv 2305.08891)
}


class Terms(nn.Module):
    """Noise, levels and loss. Its parameters are the alignment's projection, which training throws away."""

    def __init__(self, unet: UNet2DConditionModel, settings: TextToImagePreset, out: Path, device: str):
        super().__init__()
        self.settings, self.device = settings, device
        self.schedule = DDPMScheduler(**SCHEDULE)
        self.teacher: Tensor | None = None
        if settings.alignment:
            self.teacher = cached_features(out / "scenes.parquet", out)
            channels = settings.unet_channels[0]
            self.projection = nn.Sequential(nn.Conv2d(channels, 256, 1), nn.SiLU(), nn.Conv2d(256, WIDTH, 1)).to(device)
            unet.down_blocks[0].attentions[-1].register_forward_hook(self._listen)
        self.inner: Tensor | None = None

    def noise(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        """Standard normal noise like x0; immiscible: dealt out within the batch so that distances are least."""
        noise = torch.randn(x0.shape, generator=generator).to(x0)
        if self.settings.immiscible:
            _, order = linear_sum_assignment(torch.cdist(x0.flatten(1), noise.flatten(1)).cpu().numpy())
            noise = noise[torch.from_numpy(order).to(noise.device)]
        return noise.contiguous(memory_format=torch.channels_last)

    def levels(self, count: int, generator: torch.Generator, lowest: float = 0.0) -> Tensor:
        """[count] timesteps, uniform from the share `lowest` of them up."""
        steps = self.schedule.config.num_train_timesteps
        return torch.randint(int(lowest * steps), steps, (count,), generator=generator).to(self.device)

    def loss(self, v: Tensor, x0: Tensor, noise: Tensor, t: Tensor, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss of predictions v [B, c, h, w], and its parts for the log."""
        settings, target = self.settings, self.schedule.get_velocity(x0, noise, t)
        losses = (v - target).square().mean((1, 2, 3))
        plain = losses.mean()
        if settings.min_snr_gamma:
            snr = compute_snr(self.schedule, t)
            losses = losses * snr.clamp_max(settings.min_snr_gamma) / (snr + 1)
        total, values = losses.mean(), {"v": plain}
        if settings.contrastive:
            far = (v - target.roll(1, 0)).square().mean()
            total, values["far"] = total - settings.contrastive * far, far
        if self.teacher is not None:
            seen = self.teacher[index].to(v.device).float()
            likeness = F.cosine_similarity(self.projection(self.inner).float(), seen, dim=1).mean()
            total, values["likeness"] = total - settings.alignment * likeness, likeness
        return total, values

    def _listen(self, module: nn.Module, inputs: object, output: object) -> None:
        self.inner = output[0] if isinstance(output, tuple) else output.sample
