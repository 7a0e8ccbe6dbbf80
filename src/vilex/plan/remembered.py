"""Shapes worked out once: what an operation gives on the meta device is remembered by what it is given.

torch computes most of them in Python, a millisecond each; a model of fifty blocks asks for the same ones fifty times,
in the forward pass, in the backward pass, and in every pass that is counted.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vilex.plan.memory import storages_of

IN_PLACE = object()  # of an operation that changes its first argument and returns it
Shape = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]  # with its strides


class RememberedShapes(TorchDispatchMode):
    """While it is on, operations on meta tensors give new tensors of the shapes that they gave before.

    Only those that make their results anew, or change their first argument alone: a view is computed every time.
    Entered before `LiveBytes` or `FlopCounterMode`, so that these see every operation.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known: dict[Any, Any] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        try:
            key = (function, _told(args), _told(tuple(sorted(kwargs.items()))))
            found = self.known.get(key)
        except (TypeError, _Real):  # what cannot be told apart, or is more than a shape
            return function(*args, **kwargs)
        if found is IN_PLACE:
            return args[0]
        if found is not None:
            made = [None if one is None else _new(*one) for one in found]
            return made[0] if len(function._schema.returns) == 1 else tuple(made)
        before = _shape(args[0]) if args and isinstance(args[0], Tensor) else None
        result = function(*args, **kwargs)
        if (value := _value(function, args, kwargs, result, before)) is not None:
            self.known[key] = value
        return result


class _Real(Exception):
    """A tensor with data."""


def _told(value: Any) -> Any:
    """What a shape can depend on, hashable."""
    if isinstance(value, Tensor):
        if not value.is_meta:
            raise _Real
        return _shape(value)
    if isinstance(value, list | tuple):
        return tuple(map(_told, value))
    return (type(value), value)  # 1, 1.0 and True are three


def _shape(tensor: Tensor) -> Shape:
    return tuple(tensor.shape), tensor.stride(), tensor.dtype


def _new(shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(shape, strides, dtype=dtype, device="meta")


def _value(function: Any, args: Any, kwargs: Any, result: Any, before: Shape | None) -> Any:
    """What to remember of an operation that was run; None where it has to be run every time."""
    schema = function._schema
    if schema.is_mutable:
        changed = [one for one in schema.arguments if one.alias_info is not None and one.alias_info.is_write]
        own = changed == list(schema.arguments[:1]) and result is args[0] and _shape(result) == before
        return IN_PLACE if own else None
    results = result if isinstance(result, tuple) else (result,)
    if len(results) != len(schema.returns) or any(one.alias_info is not None for one in schema.returns):
        return None
    given = storages_of((args, kwargs))
    made: list[Shape | None] = []
    for one in results:
        if one is not None and not _is_new(one, given):
            return None
        made.append(None if one is None else _shape(one))
    return tuple(made)


def _is_new(one: Any, given: set[int]) -> bool:
    """Whether it is a meta tensor of a storage of its own, of just the size that its shape takes."""
    if not isinstance(one, Tensor) or not one.is_meta or id(one.untyped_storage()) in given:
        return False
    return one.untyped_storage().nbytes() == _new(*_shape(one)).untyped_storage().nbytes()
