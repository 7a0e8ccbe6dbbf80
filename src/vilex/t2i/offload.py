"""A model larger than the device: its parts wait in main memory and come when they are called.

The hooks are accelerate's, as in diffusers' `enable_model_cpu_offload` and `enable_sequential_cpu_offload`; models
that a pipeline has so hooked are known here too.
"""

from collections.abc import Sequence

import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from torch import nn

from vilex.errors import InputError

WAYS = ("model", "sequential")


def offload(modules: Sequence[nn.Module], device: str | torch.device, way: str) -> None:
    """Let modules, in the order in which they work, compute on `device` and wait in main memory.

    Args:
        way: `model` brings one module at a time, and the next sends it back: little slower; `sequential` brings
            every layer by itself: least memory, much slower.
    Raises:
        InputError: there is no such way.
    """
    if way not in WAYS:
        raise InputError(f"offload '{way}': expected {' or '.join(WAYS)}")
    before = None
    for module in modules:
        if way == "sequential":
            cpu_offload(module, device)
        else:
            _, before = cpu_offload_with_hook(module, device, before)


def device_of(module: nn.Module) -> torch.device:
    """Where a module computes: where its weights are, or where its hooks bring them."""
    for part in module.modules():
        device = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(module.parameters()).device
