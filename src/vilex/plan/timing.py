"""What a training step takes in seconds, on random weights of its shapes."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn


def time_step(
    modules: Sequence[nn.Module],
    make_optimizer: Callable[[], torch.optim.Optimizer],
    forward_backward: Callable[[], None],
    accumulate: int,
    steps: int,
    device: str,
) -> float:
    """Seconds of one step: its micro-batches and the optimiser's own, each the best of `steps` after one to warm up.

    Args:
        modules: shapes on the meta device, which get memory on `device` and random values.
        make_optimizer: called once they have. forward_backward: one micro-batch. accumulate: of those in a step.
    """
    for module in modules:
        _fill(module, device)
    optimizer = make_optimizer()
    parts, updates = [], []
    for _ in range(steps + 1):
        start = _now(device)
        forward_backward()
        middle = _now(device)
        optimizer.step()
        parts.append(middle - start)
        updates.append(_now(device) - middle)
        optimizer.zero_grad(set_to_none=True)
    return min(parts[1:]) * accumulate + min(updates[1:])


def _fill(module: nn.Module, device: str) -> None:
    """Small random values; whole numbers, which are positions, count up."""
    module.to_empty(device=device)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.normal_(std=0.02)
            else:
                tensor.copy_(torch.arange(tensor.numel(), device=device).view(tensor.shape))


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()
