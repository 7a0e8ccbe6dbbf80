"""ScienceQA: a question, its context and its options, `The answer is B.`; the questions that have a picture.

In training the options come in another order each time, so that no letter can be learnt by heart.
"""

import random
from dataclasses import replace

from vilex.errors import InputError
from vilex.understand.examples import Example, inside
from vilex.understand.tasks.reading import Record, needs_split, not_empty, read_record, the_files
from vilex.understand.tasks.task import DecodeNumbers, Published, Task, TransferNumbers

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def science_prefix(question: str, hint: str, choices: list[str]) -> str:
    """How a question is asked."""
    options = ", ".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    return f"Question: {question}\nContext: {hint or 'N/A'}\nOptions: {options}\nAnswer:"


def science_suffix(answer: int) -> str:
    """What the option of a number is answered as."""
    return f"The answer is {LETTERS[answer]}."


def read_science(source: Published) -> list[Example]:
    """`problems.json` and `pid_splits.json`; `images` has a folder a split, and in it one a question.

    Splits: train, val, test, and others that the second file names, as minitrain.
    """
    problems_file, splits_file = the_files(source, 2, "problems.json and pid_splits.json")
    problems, splits = read_record(problems_file), read_record(splits_file)
    needs_split(source, set(splits.values))
    examples = []
    for name in splits.texts(source.split):
        row = Record(problems.get(name), f"{problems_file}: {name}")
        if row.get("image") is not None:
            examples.append(_example(row, name, source))
    return not_empty(examples, source)


def _example(row: Record, name: str, source: Published) -> Example:
    choices, answer = list(row.texts("choices")), row.whole("answer")
    if not answer < len(choices) <= len(LETTERS):
        raise InputError(f"{row.where}: 'answer': {answer} is none of {len(choices)} choices")
    image = inside(source.images, f"{row.text('split')}/{name}/{row.text('image')}", row.where)
    question, hint = row.text("question"), row.text("hint")
    fields = {"question": question, "hint": hint, "choices": choices, "answer": answer}
    fields |= {key: row.text(key) for key in ("subject", "grade") if key in row}
    prefix = science_prefix(question, hint, choices)
    return Example((image,), prefix, (science_suffix(answer),), name, fields=fields)


def shuffled(example: Example, rng: random.Random) -> Example:
    """The same question with its options in another order.

    Raises:
        InputError: the example does not carry them.
    """
    try:
        question, hint = example.fields["question"], example.fields["hint"]
        choices, answer = example.fields["choices"], example.fields["answer"]
    except KeyError as error:
        raise InputError(f"example {example.id}: no {error}; ScienceQA needs question, hint, choices, answer") from None
    order = rng.sample(range(len(choices)), len(choices))
    mixed = [choices[i] for i in order]
    prefix, suffix = science_prefix(question, hint, mixed), science_suffix(order.index(answer))
    fields = {**example.fields, "choices": mixed, "answer": order.index(answer)}
    return replace(example, prefix=prefix, suffixes=(suffix,), references=(), fields=fields)


SCIENCE = (
    Task("scienceqa", "problems.json and pid_splits.json", read_science, "choice", "accuracy",
         TransferNumbers(text_length=512, epochs=20, batch_size=128, freeze_tower=True), DecodeNumbers(), shuffled,
         splits=True),
)  # fmt: skip
