"""Threads of one product each that share a training step: each takes some of the batch, then moves some of the weights.

A small model's products leave the second of two cores idle a third of the time. Two threads, each with half of the
pictures through modules of its own over the same weights, do not; and the weights' own step, which no product's
threads can share, is shared, too.
"""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
Values = dict[str, Tensor]
Losses = Callable[[nn.Module, slice], tuple[Tensor, Values]]


class Crew:
    """`size` threads, each with the model as a module of its own: hooks and buffers are its own, parameters are shared.

    A crew of one is the calling thread.
    """

    def __init__(self, model: nn.Module, size: int):
        self.size = size
        shared = {id(parameter): parameter for parameter in model.parameters()}
        self.models = [model, *(copy.deepcopy(model, dict(shared)) for _ in range(size - 1))]
        self.pool = ThreadPoolExecutor(size, initializer=torch.set_num_threads, initargs=(1,)) if size > 1 else None

    def each(self, work: Callable[[int], T]) -> list[T]:
        """What `work` gives for each thread's number, in order."""
        return list(map(work, range(self.size)) if self.pool is None else self.pool.map(work, range(self.size)))

    def gradients(self, losses: Losses, batch: int, parameters: Sequence[nn.Parameter]) -> tuple[Tensor, Values]:
        """Write the gradients of a batch's mean loss into `parameters`; returns that loss and the means of its values.

        Args:
            losses: a model and rows of the batch -> their mean loss, and values for the log.
        """
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        ends = [batch * i // self.size for i in range(self.size + 1)]
        weights = [(end - start) / batch for start, end in pairwise(ends)]

        def part(number: int) -> tuple[tuple[Tensor | None, ...], Tensor, Values]:
            with torch.enable_grad():
                loss, values = losses(self.models[number], slice(ends[number], ends[number + 1]))
                found = torch.autograd.grad(loss * weights[number], trained, allow_unused=True)
            return found, loss.detach(), {name: value.detach() for name, value in values.items()}

        parts = self.each(part)

        def add(number: int) -> None:
            for i in range(number, len(trained), self.size):
                some = [found[i] for found, _, _ in parts if found[i] is not None]
                trained[i].grad = sum(some[1:], start=some[0]) if some else None

        self.each(add)
        means = [{"": loss} | values for _, loss, values in parts]
        mean = {
            name: sum(weight * values[name].float() for weight, values in zip(weights, means, strict=True))
            for name in means[0]
        }
        return mean.pop(""), mean
