"""Questions of other harnesses put as a model was trained on them, and its answers as they are read there.

Harnesses write to chat models: "Answer the question using a single word or phrase." A model that learnt
`answer en {question}` answers such a line worse (PaliGemma's published numbers cannot be had by it), so it is taken
off, and the question comes from the sample itself where its fields are known.
"""

import fnmatch
import re
from collections.abc import Mapping
from typing import Any

from vilex.errors import InputError
from vilex.understand.metrics.choice import letter_of
from vilex.understand.tasks.captioning import caption_prefix
from vilex.understand.tasks.science import science_prefix
from vilex.understand.tasks.vqa import question_prefix

CAPTIONS = {"*_zh*": "zh", "coco*cap*": "en", "coco_karpathy*": "en", "nocaps*": "en", "textcaps*": "en",
            "flickr30k*": "en", "vatex*": "en", "msrvtt_cap*": "en", "msvd_cap*": "en"}  # fmt: skip
SCIENCE = "scienceqa*"
QUESTIONS = ("vqav2*", "textvqa*", "ok_vqa*", "vizwiz_vqa*", "gqa*")  # whose samples have the question as it was asked
NOT_SEGMENTATION = "refcoco*"
# What harnesses put behind a question for models that chat.
_TAIL = re.compile(
    r"\s*\n[^\n]*(?:single word|word or phrase|option's letter|'Unanswerable'|respond with one word|short and direct)"
    r"[^\n]*(?=\n|$)",
    re.IGNORECASE,
)


def prefix_of(task: str, sample: Mapping[str, Any], context: str, template: str = "") -> str:
    """The prefix that a question is asked by.

    Args:
        task: as the harness calls it. sample: its row. context: the question as the harness would put it.
        template: another form than the tasks' own, with `{question}` or without.
    Raises:
        InputError: the task is no question that a model trained here could answer.
    """
    if fnmatch.fnmatch(task, NOT_SEGMENTATION):
        raise InputError(
            f"{task}: captions or boxes of a marked region, no referring segmentation; score that by "
            "`vilex understand eval --task refcoco`"
        )
    question = _question(task, sample, context)
    if template:
        return template.replace("{question}", question)
    for pattern, language in CAPTIONS.items():
        if fnmatch.fnmatch(task, pattern):
            return caption_prefix(language)
    if fnmatch.fnmatch(task, SCIENCE):
        return science_prefix(sample["question"], sample.get("hint") or "", list(sample["choices"]))
    return question_prefix(question)


def is_known(task: str) -> bool:
    """Whether a task's prefix is the one that its own training would have; others are asked `answer en ...`."""
    return any(fnmatch.fnmatch(task, pattern) for pattern in (*CAPTIONS, *QUESTIONS, SCIENCE))


def answer_of(task: str, said: str, until: tuple[str, ...] = ()) -> str:
    """An answer as the harness reads it: up to where it would stop, and a letter alone where it wants one."""
    for stop in until:
        said = said.split(stop)[0] if stop else said
    if fnmatch.fnmatch(task, SCIENCE):
        letter = letter_of(said)
        return letter.upper() if letter else said.strip()
    return said.strip()


def _question(task: str, sample: Mapping[str, Any], context: str) -> str:
    own = sample.get("question")
    if isinstance(own, str) and any(fnmatch.fnmatch(task, pattern) for pattern in QUESTIONS):
        return own
    return _TAIL.sub("", context).strip()
