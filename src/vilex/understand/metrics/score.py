"""A task's answers scored: every number that belongs to it, by its name, the paper's among them.

    score(find_task("vqav2"), {"7": "a dog", ...}, examples)
    {"vqa_accuracy": 81.4, "vqa_lmms": 81.5, ..., "vqa_accuracy/number": 70.2, "count": 214354}

Shares are in percent and CIDEr is times 100, as the paper prints them.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vilex.errors import InputError
from vilex.understand.mask_codec import MaskCodec, load_codec
from vilex.understand.masks import words_to_masks
from vilex.understand.metrics.captions import bleu, cider
from vilex.understand.metrics.choice import multiple_choice
from vilex.understand.metrics.segmentation import segmentation_score
from vilex.understand.metrics.short_answers import exact_match, vqa_accuracy, vqa_any3, vqa_evalai, vqa_lmms
from vilex.understand.tasks.refer import unpack_mask
from vilex.understand.tasks.task import Task

PEOPLE = {"vqa_accuracy": vqa_accuracy, "vqa_lmms": vqa_lmms, "vqa_evalai": vqa_evalai, "vqa_any3": vqa_any3}


class Scored(Protocol):
    """What is known of an example when its answer is scored: an `Example`, or a line of a file of answers."""

    @property
    def id(self) -> str:
        """Of no other example."""

    @property
    def truths(self) -> tuple[str, ...]:
        """What the answer is scored against."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """What else belongs to it: type of answer, language, mask."""


def score(
    task: Task, predictions: Mapping[str, str], examples: Sequence[Scored], codec: MaskCodec | None = None
) -> dict[str, float]:
    """All numbers of a task.

    Args:
        predictions: an answer to each example, by its id. examples: with what they are scored against.
        codec: of `<seg>` words; the shipped one by default.
    Returns:
        Numbers by name; `count` is of examples, `task.headline` among the others.
    Raises:
        InputError: an example has no answer or no truth, or an answer no example.
    """
    answers = _in_order(predictions, examples)
    if task.metric == "segmentation":
        found = _masks(answers, examples, codec or load_codec())
    else:
        truths = [_truths(example) for example in examples]
        found = _TEXTS[task.metric](answers, truths, examples)
    return {**found, "count": float(len(examples))}


def check_scorable(task: Task, examples: Sequence[Scored], codec: MaskCodec | None = None) -> None:
    """Raise InputError where an answer could not be scored, whatever it says: found before the work."""
    if task.metric == "segmentation":
        check_words(examples, codec or load_codec())
        for example in examples:
            unpack_mask(example.fields, f"example {example.id}")
        return
    truths = [_truths(example) for example in examples]
    if task.metric == "vqa":
        for metric in PEOPLE.values():
            _each(metric, [""] * len(truths), truths, examples)


def _in_order(predictions: Mapping[str, str], examples: Sequence[Scored]) -> list[str]:
    if not examples:
        raise InputError("examples: expected at least one, got none")
    asked = {example.id for example in examples}
    missing = [example.id for example in examples if example.id not in predictions]
    if missing:
        raise InputError(f"predictions: none for example {missing[0]} and {len(missing) - 1} more; answer each example")
    if strange := [name for name in predictions if name not in asked]:
        raise InputError(
            f"predictions: {strange[0]} and {len(strange) - 1} more are of no example; are these the right ones?"
        )
    return [predictions[example.id] for example in examples]


def _truths(example: Scored) -> tuple[str, ...]:
    if not example.truths:
        raise InputError(f"example {example.id}: nothing to score against; give suffix or references")
    return example.truths


def _captions(answers: list[str], truths: list[tuple[str, ...]], examples: Sequence[Scored]) -> dict[str, float]:
    """CIDEr and BLEU, and CIDEr of each language where there are several: IDF is then each language's own."""
    found = {"cider": 100 * float(cider(answers, truths).mean())}
    found |= {f"bleu-{n}": 100 * value for n, value in enumerate(bleu(answers, truths), 1)}
    rows: dict[str, list[int]] = defaultdict(list)
    for i, example in enumerate(examples):
        rows[str(example.fields.get("language", "en"))].append(i)
    if len(rows) > 1:
        each = {
            language: 100 * float(cider([answers[i] for i in some], [truths[i] for i in some]).mean())
            for language, some in rows.items()
        }
        found["cider"] = float(np.mean(list(each.values())))
        found |= {f"cider/{language}": value for language, value in each.items()}
    return found


def _people(answers: list[str], truths: list[tuple[str, ...]], examples: Sequence[Scored]) -> dict[str, float]:
    """Accuracy by all four definitions, the official one by type of answer too."""
    found = {}
    for name, metric in PEOPLE.items():
        each = _each(metric, answers, truths, examples)
        found[name] = 100 * float(np.mean(each))
        if name == "vqa_accuracy":
            found |= _by_type(name, each, examples)
    return found


def _exact(answers: list[str], truths: list[tuple[str, ...]], examples: Sequence[Scored]) -> dict[str, float]:
    each = _each(exact_match, answers, truths, examples)
    return {"exact_match": 100 * float(np.mean(each))} | _by_type("exact_match", each, examples)


def _choice(answers: list[str], truths: list[tuple[str, ...]], examples: Sequence[Scored]) -> dict[str, float]:
    found = multiple_choice(answers, [some[0] for some in truths])
    return {"accuracy": 100 * found.accuracy, "unread": 100 * found.unread}


def _masks(answers: list[str], examples: Sequence[Scored], codec: MaskCodec) -> dict[str, float]:
    check_words(examples, codec)
    true = [unpack_mask(example.fields, f"example {example.id}") for example in examples]
    drawn = words_to_masks(codec, answers, [(mask.shape[0], mask.shape[1]) for mask in true])
    found = segmentation_score(zip(drawn, true, strict=True))
    return {"miou": 100 * found.miou, "ciou": 100 * found.ciou, "invalid": 100 * found.invalid}


def check_words(examples: Sequence[Scored], codec: MaskCodec) -> None:
    """Raise InputError where an example says that its words are another codec's."""
    for example in examples:
        if (whose := example.fields.get("codec")) not in (None, codec.digest()):
            raise InputError(
                f"example {example.id}: its words are those of the mask codec {whose}, not of {codec.digest()}; "
                "score it with the codec that it was converted with (--codec)"
            )


def _each(
    metric: Callable[[str, Sequence[str]], float],
    answers: list[str],
    truths: list[tuple[str, ...]],
    examples: Sequence[Scored],
) -> list[float]:
    found = []
    for answer, said, example in zip(answers, truths, examples, strict=True):
        try:
            found.append(metric(answer, said))
        except InputError as error:
            raise InputError(f"example {example.id}: {error}") from None
    return found


def _by_type(name: str, each: list[float], examples: Sequence[Scored]) -> dict[str, float]:
    """A number's mean by the examples' `answer_type`, where they have one."""
    by_type: dict[str, list[float]] = defaultdict(list)
    for value, example in zip(each, examples, strict=True):
        if kind := example.fields.get("answer_type"):
            by_type[str(kind)].append(value)
    return {f"{name}/{kind}": 100 * float(np.mean(values)) for kind, values in sorted(by_type.items())}


_TEXTS = {"captions": _captions, "vqa": _people, "exact": _exact, "choice": _choice}
