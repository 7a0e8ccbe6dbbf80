"""At which sizes a run's pictures are drawn."""

from vilex.checks import size
from vilex.data.buckets import Size
from vilex.data.config import DataConfig
from vilex.errors import InputError
from vilex.t2i.base import FrozenT2I


def training_sizes(config: DataConfig, t2i: FrozenT2I) -> tuple[Size, ...]:
    """`data.sizes` as (width, height) in pixels; the frozen model's own if there are none.

    Raises:
        InputError: one is no size, comes twice, or is none that the frozen model draws.
    """
    sizes = tuple(size(one, "config: data.sizes") for one in config.sizes)
    for i, one in enumerate(sizes):
        if one in sizes[:i]:
            raise InputError(f"config: data.sizes: {one[0]}x{one[1]} is given twice; give each once")
        try:
            t2i.sized(*one)
        except InputError as error:
            raise InputError(f"config: data.sizes: {error}") from None
    return sizes or (t2i.picture_size,)


def largest(sizes: tuple[Size, ...]) -> Size:
    """The one of most pixels, which takes most memory."""
    return max(sizes, key=lambda one: one[0] * one[1])
