"""Frozen parts in 8 and 4 bits: the denoiser's and text encoders' matrices, by the libraries that diffusers knows.

    int8   torchao, weights alone, a scale a row; on every device, and gradients flow through
    nf4    bitsandbytes, NormalFloat (Dettmers et al. 2023, arXiv 2305.14314), a scale for 64 weights; on CUDA cards

Lookups stay as they are, so that a token is what a word is, and so does the auto-encoder.
"""

import math
from typing import Any

import diffusers
import torch
import transformers
from torch import nn
from transformers.quantizers.base import get_keys_to_not_convert

from vilex.errors import InputError
from vilex.extras import needs

WAYS = ("int8", "nf4")
NF4_BLOCK = 64  # weights that share a scale, of float32


def check_quantization(way: str | None) -> None:
    """Raises:
    InputError: there is no such way, or not here.
    """
    if way is None:
        return
    if way not in WAYS:
        raise InputError(f"quantize '{way}': expected {' or '.join(WAYS)}")
    if way == "nf4" and not torch.cuda.is_available():
        raise InputError("quantize 'nf4': needs a CUDA card; use int8, or none")
    if way == "int8":
        with needs("quantization"):
            import torchao  # noqa: F401
    else:
        with needs("nf4"):
            import bitsandbytes  # noqa: F401


def quantization_of(kind: type, way: str, dtype: torch.dtype) -> Any:
    """What `from_pretrained` of a class of diffusers or transformers takes as `quantization_config`."""
    library: Any = transformers if issubclass(kind, transformers.PreTrainedModel) else diffusers
    if way == "int8":
        with needs("quantization"):
            from torchao.quantization import Int8WeightOnlyConfig
        return library.TorchAoConfig(Int8WeightOnlyConfig())
    return library.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, bnb_4bit_use_double_quant=False
    )


def numbers_in(weight: torch.Tensor) -> int:
    """How many numbers a parameter stands for, however few bits it keeps of each."""
    whole = getattr(weight, "quant_shape", None) or getattr(getattr(weight, "quant_state", None), "shape", None)
    return math.prod(whole or weight.shape)


def stored_bytes(module: nn.Module, way: str | None) -> int:
    """Bytes that a module's parameters and buffers will take, its matrices quantised.

    Args:
        module: as it is before, shapes on the meta device will do.
    """
    kept = get_keys_to_not_convert(module) if isinstance(module, transformers.PreTrainedModel) else ()
    matrices = {
        one.weight for name, one in module.named_modules() if way and isinstance(one, nn.Linear) and name not in kept
    }
    return sum(
        _quantized(tensor, way) if tensor in matrices else tensor.numel() * tensor.element_size()
        for tensor in (*module.parameters(), *module.buffers())
    )


def _quantized(weight: torch.Tensor, way: str | None) -> int:
    if way == "int8":
        return weight.numel() + weight.shape[0] * (weight.element_size() + 1)  # a scale and a zero a row
    return weight.numel() // 2 + -(-weight.numel() // NF4_BLOCK) * 4
