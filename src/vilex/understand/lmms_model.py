"""A model of `vilex understand train` inside lmms-eval: `--model vilex --model_args pretrained=RUN/vlm`.

lmms-eval imports this; nothing else does.
"""

import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.model import lmms
from PIL import Image

from vilex import checks
from vilex.device import check_device
from vilex.errors import InputError
from vilex.pictures.inputs import open_picture
from vilex.understand.harness import answer_of, is_known, prefix_of
from vilex.understand.tasks.video import FRAMES, frames_of
from vilex.understand.vlm_folder import load_vlm

LONGEST = 8192  # tokens of an answer


@dataclass(frozen=True)
class Request:
    """A question as this model is asked.

    Attributes:
        place: among the harness's. key: of those that go together: pictures, longest answer, beams.
    """

    place: int
    task: str
    prefix: str
    pictures: tuple[Image.Image, ...]
    until: tuple[str, ...]
    key: tuple[int, int, int]


class LmmsModel(lmms):
    """Answers lmms-eval's requests.

    Args:
        pretrained: a trained model's folder, RUN/vlm. device: the best there is by default.
        batch_size: questions answered at once. prefix: how all is asked, `answer en {question}` say; by default each
            task as it is trained (`vilex.understand.harness`).
        beams: of a beam search; 0 leaves it to the task. max_new_tokens: where the task does not say.
        frames: of a video.
    Raises:
        InputError: an argument is unknown or has another form, or the folder holds no such model.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str = "",
        device: str = "",
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        prefix: str = "",
        beams: int = 0,
        max_new_tokens: int = 32,
        frames: int = FRAMES,
        **others: Any,
    ):
        super().__init__()
        if others:
            known = "pretrained, device, batch_size, prefix, beams, max_new_tokens, frames"
            raise InputError(f"--model_args: unknown {', '.join(map(repr, others))}; known are {known}")
        if not pretrained:
            raise InputError("--model_args: pretrained is missing; give pretrained=RUN/vlm, a trained model's folder")
        self.batch_size = _whole(batch_size, "batch_size", 1, 4096)
        self.beams = _whole(beams, "beams", 0, 64)
        self.max_new_tokens = _whole(max_new_tokens, "max_new_tokens", 1, LONGEST)
        self.frames = _whole(frames, "frames", 1, 1024)
        self.prefix, self._device = str(prefix), self._place(device)
        self.model = load_vlm(str(pretrained)).to(self._device)
        self.model.features.to(self._device)
        self.kept = tempfile.TemporaryDirectory(prefix="vilex-frames-")

    def _place(self, device: str) -> torch.device:
        """Where it computes; of several processes, this one's own card."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import Accelerator

            self.accelerator = Accelerator()
            self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
            return self.accelerator.device
        if device:
            return check_device(str(device), "device")
        return (torch.accelerator.is_available() and torch.accelerator.current_accelerator()) or torch.device("cpu")

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._device

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answers, in the order of the requests.

        Raises:
            InputError: a request has no picture, wants sampling, or is no question for this model.
        """
        answers = [""] * len(requests)
        for some in self._batches(requests):
            images, longest, beams = some[0].key
            parts = self.model.features.of_images([picture for one in some for picture in one.pictures])
            said = self.model.generate(parts, [one.prefix for one in some], images, longest, beams)
            for one, text in zip(some, said, strict=True):
                answers[one.place] = answer_of(one.task, text, one.until)
                arguments = requests[one.place].args
                self.cache_hook.add_partial("generate_until", (arguments[0], arguments[1]), answers[one.place])
        return answers

    def _batches(self, requests: Sequence[Any]) -> Iterator[list[Request]]:
        """Neighbours that go together, some at a time; pictures are read as they come."""
        some: list[Request] = []
        said: set[str] = set()
        for place, request in enumerate(requests):
            one = self._request(place, *request.args)
            if not (is_known(one.task) or self.prefix or one.task in said):
                said.add(one.task)
                warnings.warn(
                    f"{one.task}: asked as {one.prefix[:60]!r}; --model_args prefix=... changes it", stacklevel=2
                )
            if some and (len(some) == self.batch_size or some[0].key != one.key):
                yield some
                some = []
            some.append(one)
        if some:
            yield some

    def _request(
        self, place: int, context: str, settings: dict[str, Any], to_visual: Any, number: Any, task: str, split: str
    ) -> Request:
        sample = self.task_dict[task][split][number]
        pictures = tuple(self._pictures(to_visual(sample)))
        if not pictures:
            raise InputError(
                f"{task}: sample {number} has no picture; choose a task whose samples do, as scienceqa_img"
            )
        if settings.get("do_sample") or (settings.get("temperature") or 0) > 0:
            raise InputError(f"{task}: wants sampled answers; set --gen_kwargs temperature=0,do_sample=False")
        longest = _whole(settings.get("max_new_tokens", self.max_new_tokens), "max_new_tokens", 1, LONGEST)
        beams = self.beams or _whole(settings.get("num_beams") or 1, "num_beams", 1, 64)
        until = settings.get("until") or ()
        until = (until,) if isinstance(until, str) else tuple(until)
        prefix = prefix_of(task, sample, context, self.prefix)
        return Request(place, task, prefix, pictures, until, (len(pictures), longest, beams))

    def _pictures(self, shown: Any) -> Iterator[Image.Image]:
        """Pictures as they are, videos as their frames."""
        for one in shown or ():
            if isinstance(one, str | os.PathLike):
                clip = Path(one)
                yield from map(open_picture, frames_of(clip, Path(self.kept.name), self.frames))
            else:
                yield open_picture(one)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not to be had: answers are generated."""
        raise InputError("vilex: answers by generating; choose tasks of output_type generate_until")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not to be had: a question has one round."""
        raise InputError("vilex: answers one round; choose tasks of output_type generate_until")


def _whole(value: Any, name: str, low: int, high: int) -> int:
    """A whole number, or a text of one, as arguments come."""
    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    return checks.whole(value, name, low, high)
