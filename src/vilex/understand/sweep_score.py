"""What a run of a sweep is worth on a file of examples: by its tasks' own scores, by matches, or by its loss."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Literal

from vilex.errors import InputError
from vilex.understand.answers import Answer, answer_all, mean_loss, share_of_matches, write_answers
from vilex.understand.config import TransferConfig
from vilex.understand.examples import Example, read_examples
from vilex.understand.metrics.score import score
from vilex.understand.samples import Gallery, pictures_of
from vilex.understand.tasks.registry import find_task
from vilex.understand.transfer_features import fill_cache
from vilex.understand.vlm import VisualLanguageModel

Score = Literal["task", "match", "loss"]


@dataclass(frozen=True)
class Scored:
    """One number, larger is better, and, of tasks, all the numbers that it is made of."""

    score: float
    numbers: dict[str, dict[str, float]]


def score_file(
    by: Score, vlm: VisualLanguageModel, config: TransferConfig, path: Path, answers: Path | None = None
) -> Scored:
    """Answer a file of examples and score the answers.

    Args:
        config: of the run: where pictures lie and features are kept, how answers are made, which task it is.
        answers: where they are kept, as JSON lines.
    Raises:
        InputError: a file or picture cannot be read, or there is nothing to score by.
    """
    examples = read_examples(path, Path(config.data.root) if config.data.root else None)
    cache, refused = fill_cache(config.features, vlm.features, dict.fromkeys(pictures_of(examples)))
    if refused:
        raise InputError(refused[0])
    gallery = Gallery(vlm.features.views, cache)
    if by == "loss":
        loss = mean_loss(vlm, examples, gallery, config.decode.batch_size)
        if loss is None:
            raise InputError(f"{path}: no suffixes, so no loss to choose by")
        return Scored(-loss, {})
    said = answer_all(vlm, examples, gallery, config.decode, config.decode.batch_size)
    if answers:
        write_answers(answers, said)
    if by == "match":
        return Scored(share_of_matches(said), {})
    return score_tasks(said, examples, config.data.task, str(path))


def score_tasks(answers: Sequence[Answer], examples: Sequence[Example], task: str, where: str) -> Scored:
    """Each task's numbers, and the mean of those that the paper prints of it, in percent.

    Args:
        task: of the examples that name none themselves in a field `task`. where: the examples' file, for errors.
    Raises:
        InputError: an example is of no task.
    """
    by_task: dict[str, list[int]] = defaultdict(list)
    for i, example in enumerate(examples):
        name = str(example.fields.get("task") or task)
        if not name:
            raise InputError(f"{where}: example {example.id}: of no task; set data.task, or give each example a 'task'")
        by_task[name].append(i)
    numbers = {
        name: score(find_task(name), {answers[i].id: answers[i].answer for i in some}, [examples[i] for i in some])
        for name, some in by_task.items()
    }
    return Scored(mean(found[find_task(name).headline] for name, found in numbers.items()), numbers)


def file_sha256(path: Path) -> str:
    """Of a file's bytes.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file of JSON lines") from None
