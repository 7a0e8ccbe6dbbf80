"""The average of the weights, of each part from the step on at which it begins to learn."""

from collections.abc import Sequence

from diffusers.training_utils import EMAModel
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving averages with a warm-up: 1 - k^(-3/4) in a part's k-th step, at most `decay`.

    Args:
        tower, others: what learns, in this order. alone: steps in which the tower does not; its average is then its
            weights as they are, and its warm-up begins after them.
    """

    def __init__(self, tower: Sequence[nn.Parameter], others: Sequence[nn.Parameter], decay: float, alone: int = 0):
        self._parts = [
            (list(parameters), EMAModel(parameters, decay, update_after_step=wait, use_ema_warmup=True, power=0.75))
            for parameters, wait in ((tower, alone), (others, 0))
            if parameters
        ]

    def step(self) -> None:
        """Take in the weights of one more step."""
        for parameters, average in self._parts:
            average.step(parameters)

    @property
    def shadow_params(self) -> list[Tensor]:
        """The averages, of the tower's weights and then of the others."""
        return [value for _, average in self._parts for value in average.shadow_params]

    @property
    def optimization_step(self) -> int:
        """How many steps were taken in."""
        return self._parts[0][1].optimization_step

    def load(self, values: Sequence[Tensor], step: int) -> None:
        """Go on from averages, in the order of `shadow_params`, of so many steps."""
        left = list(values)
        for parameters, average in self._parts:
            average.shadow_params, left = left[: len(parameters)], left[len(parameters) :]
            average.optimization_step = step
