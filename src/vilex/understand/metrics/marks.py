"""Each answer's own mark, by a task's headline number: what tells right ones from wrong ones on a page."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vilex.understand.mask_codec import MaskCodec
from vilex.understand.masks import words_to_masks
from vilex.understand.metrics.captions import cider
from vilex.understand.metrics.choice import multiple_choice
from vilex.understand.metrics.score import PEOPLE, Scored
from vilex.understand.metrics.segmentation import segmentation_score
from vilex.understand.rle import Mask
from vilex.understand.tasks.refer import unpack_mask
from vilex.understand.tasks.task import Task

RIGHT = 0.5  # a mark from which on an answer is right, where marks have a scale


@dataclass(frozen=True)
class Marks:
    """Marks of answers.

    Attributes:
        name: what they are. values: [N]. right: the mark from which on an answer counts as right; of captions, which
            have no such mark, the middle one.
        drawn: of referring segmentation, each answer's mask and the true one.
    """

    name: str
    values: Sequence[float]
    right: float = RIGHT
    drawn: Sequence[tuple[Mask | None, Mask]] = ()


def marks_of(
    task: Task | None, answers: Sequence[str], examples: Sequence[Scored], codec: MaskCodec | None = None
) -> Marks:
    """Marks of answers to examples, in their order; without a task, whether they are a truth letter by letter.

    Args:
        codec: of `<seg>` words, which segmentation needs.
    """
    truths = [example.truths for example in examples]
    if task is None or task.metric == "exact":
        same = [float(one in some) for one, some in zip(answers, truths, strict=True)]
        return Marks("exact match" if task else "match", same)
    if task.metric == "captions":
        each = cider(answers, truths).tolist() if answers else []
        return Marks("CIDEr", each, float(np.median(each)) if each else 0.0)
    if task.metric == "choice":
        letters = [multiple_choice([one], [some[0]]).accuracy for one, some in zip(answers, truths, strict=True)]
        return Marks("right letter", letters)
    if task.metric == "segmentation":
        assert codec
        true = [unpack_mask(example.fields, f"example {example.id}") for example in examples]
        drawn = words_to_masks(codec, answers, [(mask.shape[0], mask.shape[1]) for mask in true])
        pairs = list(zip(drawn, true, strict=True))
        return Marks("overlap", [segmentation_score([pair]).miou for pair in pairs], drawn=pairs)
    metric = PEOPLE[task.headline]
    return Marks(task.headline, [metric(one, some) for one, some in zip(answers, truths, strict=True)])
