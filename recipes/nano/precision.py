"""Number formats, chosen by what this processor does fast.

bfloat16 matrix products are twice as fast as float32's where `lscpu` shows `avx512_bf16` or AMX, and slower where
the processor must emulate them: so they are timed. Group norms are faster in float32.
"""

import time
from contextlib import AbstractContextManager

import torch
from torch import nn

WORTH = 1.3  # bfloat16 products must be faster by this factor to pay for the casts around them
SECONDS = 0.5  # of measurement


def choose_precision(device: str) -> str:
    """`bf16` where matrix products in it are clearly faster on this very machine, else `fp32`.

    The formats take turns and each one's fastest product counts, so that other work on the processor does not.
    """
    if device != "cpu":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    matrices = {dtype: torch.randn(512, 512).to(dtype) for dtype in (torch.float32, torch.bfloat16)}
    fastest = dict.fromkeys(matrices, float("inf"))
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        for dtype, matrix in matrices.items():
            started = time.perf_counter()
            matrix @ matrix
            fastest[dtype] = min(fastest[dtype], time.perf_counter() - started)
    return "bf16" if fastest[torch.float32] > WORTH * fastest[torch.bfloat16] else "fp32"


def autocast(device: str, precision: str) -> AbstractContextManager[None]:
    """Matrix products in the chosen format; weights, losses and averages stay float32."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")


def normalise_in_float32(model: nn.Module) -> None:
    """Group norms of a model in float32 under autocast: their bfloat16 gradient takes four times as long on CPUs."""
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
