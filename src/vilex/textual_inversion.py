"""Files of textual inversion (Gal et al. 2022, arXiv 2208.01618): learned words, which are tokens like any image's.

learned_embeds.safetensors   {"<cat>": [n, d] or [d]}, as diffusers and its trainers write it
cat.safetensors              {"emb_params": [n, d]}, as Stable Diffusion's web interfaces do
cat-xl.safetensors           {"clip_l": [n, d1], "clip_g": [n, d2]}, a part for each of several text encoders
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vilex.errors import InputError

PARTS = ("clip_l", "clip_g", "t5xxl")  # in the order in which image tokens are cut for the text encoders
ONE_WORD = "emb_params"
PICKLED = (".pt", ".pth", ".bin", ".ckpt")


def is_inversion(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a safetensors file's content is a textual inversion: one learned word, or a part for each encoder."""
    named = set(tensors)
    vectors = all(value.ndim in (1, 2) and value.is_floating_point() for value in tensors.values())
    return vectors and (named <= set(PARTS) or len(named) == 1)


def learned_word(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The one learned word, [n, d], by its name: its own, or the file's.

    Args:
        tensors: what the file holds, see `is_inversion`.
    Raises:
        InputError: its parts have not equally many vectors.
    """
    parts = {key: value[None] if value.ndim == 1 else value for key, value in tensors.items()}
    if not set(parts) <= set(PARTS):
        ((key, value),) = parts.items()
        return {path.stem if key == ONE_WORD else key.strip("<>") or path.stem: value.float()}
    if len({len(value) for value in parts.values()}) > 1:
        counts = ", ".join(f"{key} {len(value)}" for key, value in parts.items())
        raise InputError(f"{path}: expected as many vectors for each text encoder, got {counts}")
    return {path.stem: torch.cat([parts[key].float() for key in PARTS if key in parts], dim=1)}


def refuse_pickled(path: Path) -> None:
    """Raise InputError for a file of the formats that run code when they are read."""
    if path.suffix.lower() in PICKLED:
        raise InputError(f"{path}: pickled embeddings are never read; convert the file to safetensors")
