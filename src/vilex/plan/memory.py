"""How much memory a model takes, on shapes alone: every storage that it makes and frees is added up."""

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from vilex.prompt import Prompt
from vilex.t2i.folder import DiffusersT2I


class LiveBytes(TorchDispatchMode):
    """Adds up the storages made while it is on, as they come and go.

    Attributes:
        live, peak: bytes, now and at most.
    """

    live: int
    peak: int

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        self.live, self.peak = 0, 0
        self.known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        given = storages_of((args, kwargs))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if id(storage) not in given and storage not in self.known:
                    self._count(storage)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self.known.add(storage)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.live -= size


def storages_of(values: Any) -> set[int]:
    """The storages of all tensors in nested values, by `id`."""
    return {id(leaf.untyped_storage()) for leaf in tree_leaves(values) if isinstance(leaf, Tensor)}


def fused_attention() -> AbstractContextManager[Any]:
    """Attention that never holds its matrix, as GPUs compute it; shapes alone would take the plain one."""
    return patch("torch.nn.functional.scaled_dot_product_attention", _attend)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: Any,
) -> Tensor:
    attend = torch.ops.aten._scaled_dot_product_efficient_attention
    kept = torch.is_grad_enabled()
    return attend(query, key, value, attn_mask, kept, dropout_p, is_causal, scale=scale)[0]


def measure(step: Callable[[], None]) -> tuple[int, int]:
    """Bytes at most alive and FLOPs of a step on shapes alone, which is run once for each.

    Together they would not do: the FLOP counter's hooks keep alive what checkpointing computes again (torch 2.13).
    """
    with fused_attention(), LiveBytes() as memory:
        step()
    return memory.peak, flops_of(step)


def flops_of(step: Callable[[], None]) -> int:
    """FLOPs of a step on shapes alone."""
    with fused_attention(), FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def bytes_of(module: nn.Module) -> int:
    """Of a module's parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))


@dataclass(frozen=True)
class SamplingMemory:
    """Bytes that drawing takes.

    Attributes:
        weights: of each part.
        activations: most at once while a part works; of the text encoders, while all of them read.
    """

    weights: dict[str, int]
    activations: dict[str, int]

    @property
    def resident(self) -> int:
        """With all parts on the device."""
        return sum(self.weights.values()) + max(self.activations.values())

    @property
    def offloaded(self) -> int:
        """With the part on the device that works (`offload="model"`)."""
        return max(self.weights[name] + self.activations[name] for name in self.weights)


@torch.no_grad()
def sampling_memory(t2i: DiffusersT2I, rows: int = 2, pictures: int = 1) -> SamplingMemory:
    """What drawing takes, less the workspaces of convolutions.

    Args:
        t2i: a shape on the meta device; or a real model, which then works.
        rows: conditions in a step's batch, 2 for classifier-free guidance.
        pictures: how many are decoded together, at most `rows`.
    """
    noise = torch.zeros(rows, *t2i.latent_shape, device=t2i.device)
    with fused_attention() if noise.is_meta else nullcontext():
        with LiveBytes() as reading:
            condition = t2i.read([Prompt(("a photo",))] * rows, [{}] * rows)
        with LiveBytes() as denoising:
            t2i.predict(noise, torch.zeros((), device=t2i.device), condition)
        with LiveBytes() as decoding:
            t2i.decode(noise[:pictures])
    stages = {t2i.denoiser: denoising.peak, "vae": decoding.peak}
    return SamplingMemory(
        {name: bytes_of(getattr(t2i, name)) for name in t2i.names},
        {name: stages.get(name, reading.peak) for name in t2i.names},
    )
