"""All tasks by name."""

import difflib
from pathlib import Path

from vilex.errors import InputError
from vilex.understand.examples import Example, read_examples
from vilex.understand.tasks.captioning import CAPTIONING
from vilex.understand.tasks.refer import REFER, read_own_refer
from vilex.understand.tasks.science import SCIENCE
from vilex.understand.tasks.task import Published, Task
from vilex.understand.tasks.video import VIDEO
from vilex.understand.tasks.vqa import VQA

TASKS: dict[str, Task] = {task.name: task for task in (*CAPTIONING, *VQA, *SCIENCE, *REFER, *VIDEO)}


def find_task(name: str) -> Task:
    """A task by its name.

    Raises:
        InputError: there is none; the line names the nearest.
    """
    if name in TASKS:
        return TASKS[name]
    close = difflib.get_close_matches(name, TASKS, n=1, cutoff=0.4)
    hint = f"did you mean '{close[0]}'?" if close else f"known tasks: {', '.join(TASKS)}"
    raise InputError(f"task: there is no '{name}'; {hint}")


def load_examples(task: Task, source: Published) -> list[Example]:
    """A task's examples: own ones (a single file of JSON lines in the project's form), or a published set.

    RefCOCO's JSON lines have a form of their own, with `samples`; own examples of it carry `mask` among their fields.

    Raises:
        InputError: what is given is neither; the line names file and field.
    """
    if source.split and not task.splits:
        raise InputError(f"{task.name}: each of its splits has files of its own, so that {source.split!r} says nothing")
    if source.language != "en" and not task.languages:
        raise InputError(f"{task.name}: is in English alone, so that language {source.language!r} says nothing")
    if source.codec and task.metric != "segmentation":
        raise InputError(f"{task.name}: is not answered by masks, so that it has no codec")
    if len(source.files) == 1 and source.files[0].suffix == ".jsonl" and not _has_samples(source.files[0]):
        return (
            read_own_refer(source) if task.metric == "segmentation" else read_examples(source.files[0], source.images)
        )
    return task.read(source)


def _has_samples(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return '"samples"' in file.readline()
    except OSError:
        return False
