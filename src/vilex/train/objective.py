"""The objective: an autoencoder whose decoder is the frozen model's denoising loss (ViLex, section 3.2)."""

import warnings

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor, nn

from vilex.errors import InputError
from vilex.prompt import Prompt, PromptWarning, Slot, compose, inject
from vilex.t2i.base import Condition, FrozenT2I
from vilex.train.config import ObjectiveConfig
from vilex.train.data import Batch


def tail_drop(batch: int, num_tokens: int, law: str, generator: torch.Generator) -> Tensor:
    """How many leading tokens each image keeps (TailDrop).

    `uniform` draws k from 1..n; `log` draws its logarithm evenly, so short codes are trained as
    often as long ones; `off` keeps all.

    Returns:
        [batch], 1 <= k <= num_tokens.
    """
    if law == "off":
        return torch.full((batch,), num_tokens)
    chance = torch.rand(batch, generator=generator)
    if law == "uniform":
        return 1 + (chance * num_tokens).long().clamp_max(num_tokens - 1)
    return torch.exp(chance * torch.log(torch.tensor(num_tokens + 1.0))).long().clamp(1, num_tokens)


def condition_on(t2i: FrozenT2I, tokens: Tensor, keep: Tensor, captions: list[str]) -> Condition:
    """[BOS] v1..vk [EOS] or [BOS] v1..vk c [EOS], for each image.

    Args:
        tokens: [B, n, d]. keep: [B]. captions: B texts, empty for the image alone.
    """
    layouts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptWarning)  # a caption's tail may be cut here
        for k, caption in zip(keep.tolist(), captions, strict=True):
            parts = (Slot("v", k), caption) if caption else (Slot("v", k),)
            layouts.append(compose(Prompt(parts), t2i.tokenizer, t2i.positions))
    ids = torch.stack([layout.ids for layout in layouts]).to(tokens.device)
    embeddings = inject(t2i.embed(ids), layouts, [{"v": one} for one in tokens])
    return t2i.condition(ids, embeddings)


class DenoisingObjective:
    """E || target - frozen(x_t, t, condition(tokens)) ||^2, weighted by min-SNR if asked for.

    Args:
        t2i: the frozen model. Its scheduler config sets noise levels and the target, eps or v.
        generator: the only source of randomness: noise, timesteps, TailDrop, caption dropout.
    """

    def __init__(self, t2i: FrozenT2I, config: ObjectiveConfig, generator: torch.Generator):
        self.t2i, self.config, self.generator = t2i, config, generator
        keys = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")
        known = {key: t2i.scheduler_config[key] for key in keys if key in t2i.scheduler_config}
        self.noise_schedule = DDPMScheduler(**known)
        self.kind = self.noise_schedule.config.prediction_type
        if self.kind not in ("epsilon", "v_prediction"):
            raise InputError(f"base model: prediction type '{self.kind}' is not supported; use an eps or v model")

    def __call__(self, encoder: nn.Module, num_tokens: int, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch, and per-image values for the log: loss, timestep, kept tokens."""
        device, count = batch.pixels.device, len(batch.pixels)
        with torch.no_grad():
            x0 = self.t2i.encode(batch.pixels)
        noise = torch.randn(x0.shape, generator=self.generator).to(x0)
        steps = self.noise_schedule.config.num_train_timesteps
        t = torch.randint(0, steps, (count,), generator=self.generator).to(device)
        x_t = self.noise_schedule.add_noise(x0, noise, t)
        captions, keep = self._draw(batch.captions, num_tokens)
        tokens = encoder(batch.pixel_values, int(keep.max())).tokens
        condition = condition_on(self.t2i, tokens.float(), keep, captions)
        prediction = self.t2i.predict(x_t, t, condition).float()
        target = noise if self.kind == "epsilon" else self.noise_schedule.get_velocity(x0, noise, t)
        losses = (prediction - target).square().mean((1, 2, 3))
        return (losses * self._weights(t)).mean(), {
            "loss": losses.detach(),
            "t": t,
            "keep": keep,
            "tokens": tokens.detach(),
        }

    def _draw(self, captions: list[str], num_tokens: int) -> tuple[list[str], Tensor]:
        """Caption dropout and TailDrop; images that keep a caption leave it room."""
        kept = torch.rand(len(captions), generator=self.generator) < self.config.caption_share
        captions = [caption if keeps else "" for caption, keeps in zip(captions, kept.tolist(), strict=True)]
        keep = tail_drop(len(captions), num_tokens, self.config.tail_drop, self.generator)
        beside_words = max(1, self.t2i.positions - 2 - self.config.caption_tokens)
        limit = torch.tensor([beside_words if caption else num_tokens for caption in captions])
        return captions, torch.minimum(keep, limit)

    def _weights(self, t: Tensor) -> Tensor:
        """[B] of ones, or min-SNR: min(snr, gamma) / snr for eps, / (snr + 1) for v."""
        if not self.config.min_snr_gamma:
            return torch.ones(len(t), device=t.device)
        snr = compute_snr(self.noise_schedule, t)
        return snr.clamp_max(self.config.min_snr_gamma) / (snr + (self.kind == "v_prediction"))
