"""Answers to a file of examples, kept as JSON lines beside what is true, so that anybody can score them:

{"id": "7", "prefix": "answer en what is it?", "answer": "cat", "truths": ["cat", "a cat"], "fields": {...}}
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vilex.errors import InputError
from vilex.paths import replacing
from vilex.understand.config import DecodeConfig
from vilex.understand.examples import Example
from vilex.understand.samples import Gallery, Shown, join
from vilex.understand.vlm import VisualLanguageModel


@dataclass(frozen=True)
class Answer:
    """What a model says to an example, and what is true."""

    id: str
    prefix: str
    answer: str
    truths: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def matches(self) -> bool:
        """Whether it is, letter for letter, one of the truths."""
        return self.answer in self.truths


def answer_all(
    vlm: VisualLanguageModel,
    examples: Sequence[Example],
    gallery: Gallery,
    decode: DecodeConfig,
    batch_size: int = 16,
    refused: list[str] | None = None,
    done: Callable[[int, int], None] = lambda done, total: None,
) -> list[Answer]:
    """Answer examples in order.

    Args:
        refused: gets a line for each example whose picture cannot be read, which has no answer then.
    Raises:
        InputError: a picture cannot be read, and there is no list for it.
    """
    answers: list[Answer] = []
    for count, some in _alike(examples, gallery, batch_size, refused):
        shown = join([one for one, _ in some])
        asked = [example for _, example in some]
        parts = vlm.features(shown.pixels) if shown.pixels is not None else [part.float() for part in shown.parts]
        said = vlm.generate(
            parts, [one.prefix for one in asked], len(asked[0].images), decode.max_new_tokens, decode.beams
        )
        answers += [
            Answer(one.id, one.prefix, text, one.truths, dict(one.fields))
            for one, text in zip(asked, said, strict=True)
        ]
        done(count, len(examples))
    return answers


def _alike(
    examples: Sequence[Example], gallery: Gallery, batch_size: int, refused: list[str] | None
) -> Iterator[tuple[int, list[tuple[Shown, Example]]]]:
    """Neighbours with the same number of images, read, some at a time, and how many have been dealt with."""
    some: list[tuple[Shown, Example]] = []
    for count, example in enumerate(examples, 1):
        try:
            shown = gallery(example)
        except InputError as error:
            if refused is None:
                raise
            refused.append(f"example {example.id}: {error}")
            continue
        if some and (len(some) == batch_size or len(some[0][1].images) != len(example.images)):
            yield count - 1, some
            some = []
        some.append((shown, example))
    if some:
        yield len(examples), some


def share_of_matches(answers: Sequence[Answer]) -> float:
    """Share of answers that are one of the truths: no task's own score, but one that every task has."""
    return sum(one.matches for one in answers) / max(1, len(answers))


def write_answers(path: Path, answers: Sequence[Answer]) -> None:
    """Write answers as JSON lines, whole or not at all."""
    with replacing(path) as aside, aside.open("w", encoding="utf-8") as file:
        for one in answers:
            file.write(json.dumps(vars(one), ensure_ascii=False, default=str) + "\n")


def read_answers(path: Path) -> list[Answer]:
    """What `write_answers` wrote.

    Raises:
        InputError: the file cannot be read, or a line is no answer.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give the answers of `vilex understand eval`") from None
    answers = []
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
            answers.append(Answer(**{**found, "truths": tuple(found["truths"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path}: line {number}: no answer ({error})") from None
    return answers


@torch.no_grad()
def mean_loss(
    vlm: VisualLanguageModel, examples: Sequence[Example], gallery: Gallery, batch_size: int = 16
) -> float | None:
    """Mean loss of the first suffix of each example; None where no example has one."""
    known, total = [one for one in examples if one.suffixes], 0.0
    for _, some in _alike(known, gallery, batch_size, []):
        shown = join([one for one, _ in some])
        asked = [example for _, example in some]
        parts = vlm.features(shown.pixels) if shown.pixels is not None else [part.float() for part in shown.parts]
        laid = vlm.layout.training(
            [one.prefix for one in asked], [one.suffixes[0] for one in asked], [len(one.images) for one in asked]
        )
        losses, _ = vlm(parts, laid.to(vlm.device))
        total += losses.sum().item()
    return total / len(known) if known else None
