"""DreamBooth (Ruiz et al., arXiv 2208.12242) by LoRA: the denoiser itself learns the subject under a rare name.

peft's low-rank weights in the denoiser's attention (diffusers' own `add_adapter`), trained on the subject's
photographs as "a photo of sks dog" and, so that other dogs stay dogs, on the frozen model's own pictures of
"a photo of a dog" (prior preservation). The file is one that diffusers' `load_lora_weights` takes.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import diffusers
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vilex.baselines.tuning import TuningSettings, draw_batch, latents_of, optimise
from vilex.errors import InputError
from vilex.extras import needs
from vilex.lexicon import VisualLexicon
from vilex.paths import replacing
from vilex.prompt import literal
from vilex.t2i.folder import DiffusersT2I
from vilex.train.denoising import DenoisingLoss

DEFAULTS = TuningSettings(steps=400, lr=1e-4)
IDENTIFIER = "sks"  # a rare word, as in the paper
LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
ADAPTER = "dreambooth"
WEIGHTS = "pytorch_lora_weights.safetensors"


@contextmanager
def tuned(
    lexicon: VisualLexicon,
    photos: Sequence[Image.Image],
    noun: str,
    settings: TuningSettings = DEFAULTS,
    rank: int = 16,
    prior_images: int = 32,
) -> Iterator[float]:
    """The lexicon's frozen model knows the subject as "sks dog" inside, and is itself again afterwards.

    Args:
        photos: of the subject. noun: its class, "dog".
        rank: of the low-rank weights. prior_images: pictures of the class to preserve; 0 for none.
    Yields:
        The seconds it took, the class's pictures included.
    Raises:
        InputError: peft is not installed.
    """
    base, start = lexicon.t2i, time.perf_counter()
    prior = _class_pictures(lexicon, noun, prior_images)
    add_adapter(base, rank)
    try:
        _learn(base, photos, noun, prior, settings)
        yield time.perf_counter() - start
    finally:
        base.network.unload_lora()


def add_adapter(t2i: DiffusersT2I, rank: int) -> None:
    """Low-rank weights in the denoiser's attention layers, which alone learn.

    Raises:
        InputError: diffusers' denoiser takes none.
    """
    if not hasattr(t2i.network, "add_adapter"):
        raise InputError(
            f"{type(t2i.network).__name__}: diffusers has no low-rank weights for it; use another base model"
        )
    with needs("baselines"):
        from peft import LoraConfig
    t2i.network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(LAYERS)), ADAPTER)


def _class_pictures(lexicon: VisualLexicon, noun: str, count: int) -> list[Image.Image]:
    if not count:
        return []
    return lexicon.generate(literal(f"a photo of a {noun}"), num_images=count, seed=0, batch_size=min(count, 16))


def _learn(
    t2i: DiffusersT2I, photos: Sequence[Image.Image], noun: str, prior: list[Image.Image], settings: TuningSettings
) -> None:
    loss, own = DenoisingLoss(t2i), latents_of(t2i, photos).clone()
    sets = [(own, f"{IDENTIFIER} {noun}")]
    if prior:
        sets.append((latents_of(t2i, prior).clone(), f"a {noun}"))

    def loss_of(generator: torch.Generator) -> Tensor:
        parts = [(*draw_batch(x0, settings, generator), name) for x0, name in sets]
        images, noise = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
        texts = [template.format(name) for _, _, templates, name in parts for template in templates]
        t = loss.times(torch.rand(len(images), generator=generator)).to(images.device)
        return loss(images, noise, t, t2i.read([literal(text) for text in texts], [{}] * len(texts))).mean()

    optimise([p for p in t2i.network.parameters() if p.requires_grad], settings, loss_of)


def save_adapter(t2i: DiffusersT2I, folder: Path) -> None:
    """Write the low-rank weights as diffusers' `pytorch_lora_weights.safetensors`, whole or not at all."""
    from diffusers.utils import convert_state_dict_to_diffusers

    with needs("baselines"):
        from peft import get_peft_model_state_dict

    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(t2i.network, adapter_name=ADAPTER))
    pipeline = getattr(diffusers, t2i.pipelines[0], StableDiffusionPipeline)
    with replacing(folder / WEIGHTS) as aside:
        pipeline.save_lora_weights(
            aside.parent, **{f"{t2i.denoiser}_lora_layers": layers}, weight_name=aside.name, safe_serialization=True
        )


def load_adapter(t2i: DiffusersT2I, folder: Path) -> None:
    """Put saved low-rank weights back into the denoiser; the same picture again.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = folder / WEIGHTS
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: no readable weights ({error}); remove it and tune again") from None
    t2i.network.load_lora_adapter(weights, prefix=t2i.denoiser, adapter_name=ADAPTER)


@contextmanager
def adapted(t2i: DiffusersT2I, folder: Path) -> Iterator[None]:
    """The denoiser with saved low-rank weights inside, and itself again afterwards; raises as `load_adapter`."""
    load_adapter(t2i, folder)
    try:
        yield
    finally:
        t2i.network.unload_lora()
