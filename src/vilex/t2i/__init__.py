"""Frozen text-to-image models, a file a family, behind one small protocol."""

from pathlib import Path

import torch

from vilex.t2i.base import Condition, FrozenT2I
from vilex.t2i.files import resolve
from vilex.t2i.stable_diffusion import StableDiffusion

__all__ = ["Condition", "FrozenT2I", "load_t2i"]


def load_t2i(name: str | Path, dtype: torch.dtype = torch.float32) -> StableDiffusion:
    """Load a frozen text-to-image model from a folder or hub id.

    Raises:
        InputError: nothing is there, it is damaged, or of a family not supported.
    """
    return StableDiffusion.from_pretrained(resolve(name), dtype)
