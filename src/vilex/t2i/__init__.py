"""Frozen text-to-image models, a file a family, behind one small protocol."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch

from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.hub.folder import file_hash, read_json, resolve_base
from vilex.hub.loading import quiet_loading
from vilex.t2i.base import Condition, FrozenT2I
from vilex.t2i.chroma import Chroma
from vilex.t2i.deepfloyd_if import DeepFloydIF
from vilex.t2i.flux import Flux
from vilex.t2i.flux_2_klein import Flux2Klein
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.ip_adapter import IPAdapterT2I
from vilex.t2i.krea_2 import Krea2
from vilex.t2i.lora import add_loras, check_loras
from vilex.t2i.lumina_2 import Lumina2
from vilex.t2i.pixart_sigma import PixArtSigma
from vilex.t2i.pixel_diffusion import PixelDiffusion
from vilex.t2i.prx import PRX
from vilex.t2i.qwen_image import QwenImage
from vilex.t2i.sana import Sana
from vilex.t2i.sana_sprint import SanaSprint
from vilex.t2i.single_file import check_single_file, holds_pipeline
from vilex.t2i.stable_diffusion import StableDiffusion
from vilex.t2i.stable_diffusion_3 import StableDiffusion3
from vilex.t2i.stable_diffusion_xl import StableDiffusionXL
from vilex.t2i.z_image import ZImage

__all__ = ["FAMILIES", "Condition", "FrozenT2I", "attach_adapter", "family_of", "load_t2i", "shape_of"]

FAMILIES: tuple[type[DiffusersT2I], ...] = (
    StableDiffusion,
    StableDiffusionXL,
    StableDiffusion3,
    Flux,
    Flux2Klein,
    Chroma,
    QwenImage,
    PixArtSigma,
    PRX,
    Sana,
    SanaSprint,
    Lumina2,
    Krea2,
    DeepFloydIF,
    PixelDiffusion,
    ZImage,
)


def load_t2i(
    name: str | Path,
    dtype: torch.dtype = torch.float32,
    quantize: str | None = None,
    checkpoint: str | Path | None = None,
    loras: Sequence[str | Path | tuple[str | Path, float]] = (),
) -> DiffusersT2I:
    """Load a frozen text-to-image model from a folder or hub id.

    Args:
        quantize: `int8` or `nf4`, for matrices of so many bits; see `vilex.t2i.quantization`.
        checkpoint: weights in one file, over the configurations of `name`; see `vilex.t2i.single_file`.
        loras: files, or (file, weight); see `vilex.t2i.lora`.
    Raises:
        InputError: nothing is there, it is damaged, or of a family not supported.
    """
    file = None if checkpoint is None else check_single_file(checkpoint)
    pairs = check_loras(loras)
    folder = resolve_base(name, weights=not (file and holds_pipeline(file)))
    with quiet_loading():
        t2i = family_of(folder).from_pretrained(folder, dtype, quantize, file)
    add_loras(t2i, pairs)
    changed = {
        "quantize": quantize,
        "loras": [{"sha256": file_hash(path), "weight": weight} for path, weight in pairs],
        "checkpoint": {file.name: file_hash(file)} if file else None,
    }
    t2i.changed = {name: value for name, value in changed.items() if value}
    return t2i


def shape_of(name: str | Path, dtype: torch.dtype = torch.float32) -> DiffusersT2I:
    """The same without weights, on the meta device; see `load_t2i` for what raises."""
    folder = resolve_base(name, weights=False)
    with quiet_loading():
        return family_of(folder).from_config(folder, dtype)


def family_of(folder: Path) -> type[DiffusersT2I]:
    """The family that a pipeline folder's model_index.json names.

    Raises:
        InputError: it names none that is supported.
    """
    pipeline = read_json(folder / "model_index.json").get("_class_name")
    for family in FAMILIES:
        if pipeline in family.pipelines:
            return family
    known = ", ".join(name for family in FAMILIES for name in family.pipelines)
    raise InputError(f"{folder}: {pipeline} is not supported; expected one of {known}")


def attach_adapter(encoder: ViLexEncoder, t2i: DiffusersT2I) -> DiffusersT2I:
    """The frozen model as an encoder's tokens reach it: as words, or through the encoder's IP-Adapter if it has one."""
    if encoder.adapter is None:
        return t2i
    return cast(DiffusersT2I, IPAdapterT2I(t2i, encoder.adapter))  # hands on all that it does not say itself
