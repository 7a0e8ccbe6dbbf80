"""Pictures in batches: the same guidance, sampler and start for all, a prompt and a seed for each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from vilex.errors import InputError
from vilex.guidance import PLAIN, Guidance, Mixture
from vilex.img2img import Start
from vilex.pictures.pixels import to_images
from vilex.prompt import Prompt
from vilex.sample import make_scheduler, sample
from vilex.scheduler_options import Scheduler
from vilex.t2i.base import FrozenT2I


@dataclass(frozen=True)
class Drawing:
    """What is the same for every picture of a call.

    Attributes:
        tokens: [n, d] by image name. weights: of images, 1 where none is given.
        negative: what is steered away from.
        scheduler: see `vilex.sample.make_scheduler`. steps: of denoising.
        start: a picture to begin from; noise alone if None.
    """

    t2i: FrozenT2I
    tokens: Mapping[str, Tensor]
    weights: Mapping[str, float]
    negative: Prompt
    guidance: Guidance
    scheduler: Scheduler
    steps: int
    start: Start | None = None

    def draw_all(
        self,
        prompts: Sequence[Prompt],
        chunks: Sequence[int | None],
        seeds: Sequence[int],
        batch_size: int,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Image.Image]:
        """One picture for each prompt and seed, in their order, at most `batch_size` at once.

        Args:
            chunks: into how many each prompt is read, see `vilex.t2i.emphasis`; None: into one, its words cut.
            on_step: called with (finished, all) denoising steps.
        """
        batches = _in_batches(chunks, batch_size)
        drawn: dict[int, Image.Image] = {}
        for number, (count, batch) in enumerate(batches):

            def report(step: int, done: int = self.steps * number) -> None:
                if on_step:
                    on_step(done + min(step, self.steps), self.steps * len(batches))

            own = self if count is None else replace(self, t2i=self.t2i.chunking(count))
            pictures = own.draw([prompts[i] for i in batch], [seeds[i] for i in batch], report)
            drawn |= zip(batch, pictures, strict=True)
        return [drawn[i] for i in range(len(prompts))]

    def draw(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], on_step: Callable[[int], None] | None = None
    ) -> list[Image.Image]:
        """One picture for each prompt and seed, in one batch; other requests wait where models take turns.

        Raises:
            InputError: the frozen model gave no finite numbers; or see `vilex.sample.sample`.
        """
        with torch.inference_mode(), self.t2i.turn:
            guided = self._mixture(self.guidance, prompts)
            always = self.guidance.interval == (0.0, 1.0)
            pixels = self.t2i.decode(
                sample(
                    self.t2i,
                    make_scheduler(self.scheduler, self.t2i.scheduler_config),
                    guided,
                    guided if always else self._mixture(PLAIN, prompts),
                    self.guidance.acts,
                    list(seeds),
                    self.steps,
                    self.start,
                    on_step,
                )
            )
        if not pixels.isfinite().all():
            raise InputError("the frozen model's picture is NaN or infinite; use float32 or bfloat16, or less guidance")
        return to_images(pixels)

    def _mixture(self, guidance: Guidance, prompts: Sequence[Prompt]) -> Mixture:
        branches = [guidance.branches(prompt, self.weights) for prompt in prompts]
        return Mixture.read(self.t2i, branches, prompts, self.tokens, self.negative)


def _in_batches(chunks: Sequence[int | None], size: int) -> list[tuple[int | None, list[int]]]:
    """Numbers of pictures that are drawn together, at most `size`: those whose prompts are read in as many chunks."""
    found = []
    for count in dict.fromkeys(chunks):
        numbers = [i for i, own in enumerate(chunks) if own == count]
        found += [(count, numbers[first : first + size]) for first in range(0, len(numbers), size)]
    return found
