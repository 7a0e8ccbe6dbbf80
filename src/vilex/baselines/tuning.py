"""What both ways of tuning share: photographs under template sentences, and a short loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from vilex.pictures.fit import square
from vilex.pictures.pixels import to_pixels
from vilex.t2i.folder import DiffusersT2I

TEMPLATES = ("a photo of {}", "a picture of {}", "a close photo of {}", "a good photo of {}", "{}")


@dataclass(frozen=True)
class TuningSettings:
    """How long, and how fast.

    Attributes:
        steps, batch_size: images a step. lr: of AdamW. seed: of noise, templates and the order of photographs.
        templates: sentences around the subject, one drawn for each image.
    """

    steps: int
    lr: float
    batch_size: int = 4
    seed: int = 0
    templates: tuple[str, ...] = TEMPLATES


@torch.inference_mode()
def latents_of(t2i: DiffusersT2I, photos: Sequence[Image.Image]) -> Tensor:
    """Middle squares of photographs as x0, [N, c, h, w]."""
    pixels = torch.stack([to_pixels(square(photo, t2i.image_size)) for photo in photos])
    return t2i.encode(pixels.to(t2i.device))


def optimise(
    parameters: list[nn.Parameter], settings: TuningSettings, loss_of: Callable[[torch.Generator], Tensor]
) -> None:
    """`steps` of AdamW on what `loss_of` gives."""
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=0.01)
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in range(settings.steps):
        loss_of(generator).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def draw_batch(x0: Tensor, settings: TuningSettings, generator: torch.Generator) -> tuple[Tensor, Tensor, list[str]]:
    """Images [B, c, h, w] with noise of the same shape and templates, drawn at random."""
    batch = settings.batch_size
    chosen = x0[torch.randint(len(x0), (batch,), generator=generator)]
    noise = torch.randn(chosen.shape, generator=generator).to(chosen)
    captions = torch.randint(len(settings.templates), (batch,), generator=generator).tolist()
    return chosen, noise, [settings.templates[i] for i in captions]
