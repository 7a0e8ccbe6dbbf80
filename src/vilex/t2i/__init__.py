"""Frozen text-to-image models, a file a family, behind one small protocol."""

from pathlib import Path

import torch

from vilex.encoder import ViLexEncoder
from vilex.t2i.base import Condition, FrozenT2I
from vilex.t2i.decoupled import DecoupledT2I
from vilex.t2i.files import resolve
from vilex.t2i.stable_diffusion import StableDiffusion

__all__ = ["Condition", "FrozenT2I", "load_t2i", "speaking"]


def load_t2i(name: str | Path, dtype: torch.dtype = torch.float32) -> StableDiffusion:
    """Load a frozen text-to-image model from a folder or hub id.

    Raises:
        InputError: nothing is there, it is damaged, or of a family not supported.
    """
    return StableDiffusion.from_pretrained(resolve(name), dtype)


def speaking(encoder: ViLexEncoder, t2i: StableDiffusion) -> StableDiffusion | DecoupledT2I:
    """The frozen model as an encoder's tokens reach it: as words, or by way of the encoder's adapter."""
    return t2i if encoder.adapter is None else DecoupledT2I(t2i, encoder.adapter)
