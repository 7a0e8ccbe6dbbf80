"""Waits for the device: how often work asks for a number, during which a GPU has nothing to do.

`.item()`, `float()`, `int()` and `bool()` of a tensor (aten::_local_scalar_dense) and `.tolist()` of computed numbers
are counted on any device, so that a CPU can tell. On others copies to the CPU, and results whose shape depends on
values, are counted too.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
ASKED = aten._local_scalar_dense.default
SHAPED = (aten.nonzero.default, aten.masked_select.default, aten._unique2.default)
COPIES = (aten._to_copy.default, aten.copy_.default)


@contextmanager
def counting_syncs() -> Iterator[Counter[str]]:
    """How often the work in here has waited so far, by what for; `.total()` is the sum."""
    waits: Counter[str] = Counter()
    with _Lists(waits), _Scalars(waits):
        yield waits


class _Scalars(TorchDispatchMode):
    def __init__(self, waits: Counter[str]):
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        away = any(isinstance(one, Tensor) and one.device.type not in ("cpu", "meta") for one in args)
        home = isinstance(result, Tensor) and result.device.type == "cpu"
        if function is ASKED or (away and (function in SHAPED or (function in COPIES and home))):
            self.waits[function.name()] += 1
        return result


class _Lists(TorchFunctionMode):
    def __init__(self, waits: Counter[str]):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is Tensor.tolist and args[0].is_floating_point() and args[0].device.type == "cpu":
            self.waits["tolist"] += 1  # on other devices the copy counts
        return function(*args, **(kwargs or {}))
