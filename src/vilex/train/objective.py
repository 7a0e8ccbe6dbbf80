"""The objective: an autoencoder whose decoder is the frozen model's denoising loss (ViLex, section 3.2)."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vilex.data import Batch
from vilex.encoder.dediffusion import gumbel
from vilex.prompt import Prompt, PromptWarning, Slot
from vilex.t2i.base import Condition, FrozenT2I
from vilex.train.config import ObjectiveConfig
from vilex.train.denoising import DenoisingLoss


def tail_drop(chance: Tensor, num_tokens: int, law: str) -> Tensor:
    """How many leading tokens each image keeps (TailDrop).

    `uniform` spreads k over 1..n; `square` spreads its root evenly and `log` its logarithm, so short codes
    come more often; `off` keeps all.

    Args:
        chance: [B], uniform in 0..1.
    Returns:
        [B], 1 <= k <= num_tokens.
    """
    if law == "off":
        return torch.full(chance.shape, num_tokens)
    if law == "uniform":
        return 1 + (chance * num_tokens).long().clamp_max(num_tokens - 1)
    if law == "square":
        return 1 + (chance**2 * num_tokens).long().clamp_max(num_tokens - 1)
    return torch.exp(chance * torch.log(torch.tensor(num_tokens + 1.0))).long().clamp(1, num_tokens)


@dataclass(frozen=True)
class Draw:
    """What is drawn at random for each image of a batch.

    Attributes:
        noise: [B, ...] standard normal, in the latents' shape.
        t, keep, caption: [B] uniform in 0..1; they settle noise level, kept tokens and caption dropout.
    """

    noise: Tensor
    t: Tensor
    keep: Tensor
    caption: Tensor


def draw(visits: Tensor, shape: torch.Size, seed: int) -> Draw:
    """Randomness by visit: the same whichever process meets the image, and in which batch.

    Args:
        visits: [B], each image's number in the run. shape: of one image's latents.
    """
    generator, noises, chances = torch.Generator(), [], []
    for visit in visits.tolist():
        generator.manual_seed(int(np.random.SeedSequence((seed, 3, visit)).generate_state(1)[0]))
        chances.append(torch.rand(3, generator=generator))
        noises.append(torch.randn(shape, generator=generator))
    return Draw(torch.stack(noises), *torch.stack(chances).unbind(1))


def draw_words(visits: Tensor, shape: tuple[int, int], seed: int) -> Tensor:
    """Gumbel noise for De-Diffusion's choice of words, [B, k, V], by visit as in `draw`; shape: (k, V)."""
    generator, noises = torch.Generator(), []
    for visit in visits.tolist():
        generator.manual_seed(int(np.random.SeedSequence((seed, 4, visit)).generate_state(1)[0]))
        noises.append(gumbel(shape, generator))
    return torch.stack(noises)


def condition_on(t2i: FrozenT2I, tokens: Tensor, keep: Tensor, captions: list[str]) -> Condition:
    """[BOS] v1..vk [EOS] or [BOS] v1..vk c [EOS], for each image.

    Args:
        tokens: [B, n, d]. keep: [B]. captions: B texts, empty for the image alone.
    """
    images = [Slot("v", k) for k in keep.tolist()]
    prompts = [Prompt((v, c) if c else (v,)) for v, c in zip(images, captions, strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptWarning)  # a caption's tail may be cut here
        return t2i.read(prompts, [{"v": one} for one in tokens])


class DenoisingObjective:
    """E || target - frozen(x_t, t, condition(tokens)) ||^2, weighted by min-SNR if asked for.

    Args:
        t2i: the frozen model. Its scheduler config sets noise levels and the target, eps or v.
        seed: with the images' visit numbers, the only source of randomness.
        words: whether the encoder chooses words (De-Diffusion), which needs randomness too.
    """

    def __init__(self, t2i: FrozenT2I, config: ObjectiveConfig, seed: int, words: bool = False):
        self.t2i, self.config, self.seed, self.words = t2i, config, seed, words
        self.loss = DenoisingLoss(t2i)
        self.losses = {t2i.picture_size: self.loss}

    def __call__(self, encoder: nn.Module, num_tokens: int, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch, a mean over all its places, of which broken samples add nothing.

        Also values of each good image for the log: loss, timestep t, kept tokens, and the tokens themselves.
        """
        loss = self._loss_of(batch.pixels)
        with torch.no_grad():
            x0 = self.t2i.encode(batch.pixels)
        drawn = draw(batch.visits, x0.shape[1:], self.seed)
        noise = drawn.noise.to(x0.device)
        level = self.config.noise_from + (1 - self.config.noise_from) * drawn.t
        t = loss.times(level).to(x0.device)
        captions, keep = self._keep(batch.captions, drawn, num_tokens)
        most, choice = max(keep.tolist()), {}
        if self.words:
            choice = {"noise": draw_words(batch.visits, (most, len(self.t2i.lookups[0])), self.seed).to(t.device)}
        tokens = encoder(batch.pixel_values, most, **choice).tokens
        condition = condition_on(self.t2i, tokens.float(), keep, captions)
        losses = loss(x0, noise, t, condition)
        weights = self.loss.min_snr(t, self.config.min_snr_gamma) * batch.weights.to(t.device)
        good = torch.nonzero(batch.weights > 0)[:, 0]
        seen = {"keep": keep, "loss": losses.detach(), "t": t, "tokens": tokens.detach()}
        return (losses * weights).mean(), {name: values[good.to(values.device)] for name, values in seen.items()}

    def _loss_of(self, pixels: Tensor) -> DenoisingLoss:
        """The loss of pictures of a size [B, 3, H, W]: its noise levels, and what the denoiser is told of it."""
        size = pixels.shape[3], pixels.shape[2]
        if size not in self.losses:
            self.losses[size] = DenoisingLoss(self.t2i.sized(*size))
        return self.losses[size]

    def _keep(self, captions: list[str], drawn: Draw, num_tokens: int) -> tuple[list[str], Tensor]:
        """Caption dropout and TailDrop; images that keep a caption leave it room."""
        kept = drawn.caption < self.config.caption_share
        captions = [caption if keeps else "" for caption, keeps in zip(captions, kept.tolist(), strict=True)]
        keep = tail_drop(drawn.keep, num_tokens, self.config.tail_drop)
        beside_words = max(1, self.t2i.frame.room - self.config.caption_tokens)
        limit = torch.tensor([beside_words if caption else num_tokens for caption in captions])
        return captions, torch.minimum(keep, limit)
