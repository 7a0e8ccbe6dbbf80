"""What a step of training gives to whoever reports it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Step:
    """What one step gave.

    Attributes:
        values: for the log, on the device: numbers, or sums and counts [2].
        stopping: whether any process was asked to stop.
        broken: how many samples of the batch are, of all processes.
    """

    values: dict[str, float | Tensor]
    stopping: bool
    broken: int
