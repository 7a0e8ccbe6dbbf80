"""Textual inversion (Gal et al., arXiv 2208.01618): a new word for one subject, found by optimising its embedding.

What ViLex reads off in one pass is searched for here with the same frozen model and the same denoising loss.
The result is tokens like any others, and a file that diffusers' `load_textual_inversion` takes.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from vilex.baselines.tuning import TuningSettings, draw_batch, latents_of, optimise
from vilex.paths import replacing
from vilex.prompt import parse
from vilex.t2i.folder import DiffusersT2I
from vilex.train.denoising import DenoisingLoss

DEFAULTS = TuningSettings(steps=3000, lr=5e-3)


def invert(
    t2i: DiffusersT2I,
    photos: Sequence[Image.Image],
    noun: str,
    vectors: int = 1,
    settings: TuningSettings = DEFAULTS,
) -> tuple[Tensor, float]:
    """Search for the word of a subject.

    Args:
        photos: of the subject. noun: the word to begin from, "dog".
        vectors: how many embeddings the word has.
    Returns:
        The word's tokens, [vectors, d], and the seconds it took.
    Raises:
        InputError: `noun` is empty.
    """
    start = time.perf_counter()
    word = nn.Parameter(t2i.word(noun).float().repeat(vectors, 1))
    x0, loss = latents_of(t2i, photos).clone(), DenoisingLoss(t2i)

    def loss_of(generator: torch.Generator) -> Tensor:
        images, noise, templates = draw_batch(x0, settings, generator)
        t = loss.times(torch.rand(len(images), generator=generator)).to(images.device)
        prompts = [parse(template.format(f"<subject:{vectors}>"), emphasis=False) for template in templates]
        return loss(images, noise, t, t2i.read(prompts, [{"subject": word}] * len(prompts))).mean()

    optimise([word], settings, loss_of)
    return word.detach(), time.perf_counter() - start


def save_word(path: Path, word: Tensor, name: str = "<subject>") -> None:
    """Write tokens [vectors, d] as diffusers' textual inversion: one tensor, named as the word in prompts."""
    with replacing(path) as aside:
        save_file({name: word.contiguous().cpu()}, aside)
