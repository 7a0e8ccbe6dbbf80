"""Questions with short answers: `answer en {question}` -> one of the answers that people gave at a time."""

from collections.abc import Callable
from typing import Any

from vilex.errors import InputError
from vilex.understand.examples import Example, inside
from vilex.understand.tasks.reading import Record, needs_split, not_empty, read_json, read_record, the_files, unpacked
from vilex.understand.tasks.task import DecodeNumbers, Published, Task, TransferNumbers


def question_prefix(question: str) -> str:
    """How a question is asked."""
    return f"answer en {question}"


def read_vqav2(source: Published) -> list[Example]:
    """Questions and annotations of VQAv2 or OKVQA, in this order; the questions alone where answers are kept back.

    Pictures are COCO's: `images` holds `COCO_val2014_000000000042.jpg`, of the year that the questions name.
    """
    if not 1 <= len(source.files) <= 2:
        the_files(source, 2, "*questions.json and *annotations.json")
    answers: dict[str, Record] = {}
    if len(source.files) == 2:
        answers = {note.name("question_id"): note for note in read_record(source.files[1]).records("annotations")}
    data = read_record(source.files[0])
    year = data.text("data_subtype").replace("test-dev", "test")
    examples = []
    for question in data.records("questions"):
        name = question.name("question_id")
        path = inside(source.images, f"COCO_{year}_{question.whole('image_id'):012d}.jpg", question.where)
        note = answers.get(name)
        if answers and note is None:
            raise InputError(f"{question.where}: 'question_id': {name} has no annotation in {source.files[1]}")
        said = _answers(note) if note else ()
        fields = {key: note.text(key) for key in ("question_type", "answer_type") if key in note} if note else {}
        examples.append(Example((path,), question_prefix(question.text("question")), said, name, fields=fields))
    return not_empty(examples, source)


def read_cut_vqav2(source: Published) -> list[Example]:
    """VQAv2; of its validation set also the parts `minival` and `not-minival`, see `minival`."""
    examples = read_vqav2(source)
    if not source.split:
        return examples
    needs_split(source, {"minival", "not-minival"})
    return minival(examples)[source.split == "minival"]


def read_textvqa(source: Published) -> list[Example]:
    """`TextVQA_0.5.1_*.json`; `images` is its `train_images` or `test_images`."""
    (path,) = the_files(source, 1, "TextVQA_0.5.1_*.json")
    examples = []
    for row in read_record(path).records("data"):
        image = inside(source.images, f"{row.text('image_id')}.jpg", row.where)
        said = row.texts("answers") if "answers" in row else ()
        fields = {"answer_type": "other"}
        examples.append(
            Example((image,), question_prefix(row.text("question")), said, row.name("question_id"), fields=fields)
        )
    return not_empty(examples, source)


def read_vizwiz(source: Published) -> list[Example]:
    """VizWiz's `train.json`, `val.json` or `test.json`."""
    (path,) = the_files(source, 1, "train.json, val.json or test.json")
    rows = read_json(path)
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected a list of questions, got {rows!r:.60}")
    examples = []
    for i, values in enumerate(rows):
        row = Record(values, f"{path}: [{i}]")
        image = row.text("image")
        said = _answers(row) if "answers" in row else ()
        fields = {key: row.text(key) for key in ("answer_type",) if key in row}
        where = inside(source.images, image, row.where)
        examples.append(Example((where,), question_prefix(row.text("question")), said, image, fields=fields))
    return not_empty(examples, source)


def read_gqa(source: Published) -> list[Example]:
    """GQA's `*_questions.json`, one file or the ten of `train_all_questions`."""
    examples = []
    for path in source.files or the_files(source, 1, "*_questions.json"):
        data = read_record(path)
        for name in data.values:
            row = Record(data.get(name), f"{path}: {name}")
            image = inside(source.images, f"{row.text('imageId')}.jpg", row.where)
            said = (row.text("answer"),) if "answer" in row else ()
            examples.append(Example((image,), question_prefix(row.text("question")), said, name))
    return not_empty(examples, source)


def read_easy_vqa(source: Published) -> list[Example]:
    """`questions.json` of easy-VQA (PyPI `easy-vqa`, MIT); `images` is the folder beside it."""
    (path,) = the_files(source, 1, "questions.json")
    rows = read_json(path)
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected a list of [question, answer, image], got {rows!r:.60}")
    examples = []
    for i, row in enumerate(rows):
        if not (isinstance(row, list) and [type(one) for one in row] == [str, str, int]):
            raise InputError(f"{path}: [{i}]: expected [question, answer, number of the image], got {row!r:.60}")
        question, answer, image = row
        where = inside(source.images, f"{image}.png", str(path))
        examples.append(Example((where,), question_prefix(question), (answer,), str(i)))
    return not_empty(examples, source)


def read_nlvr(source: Published) -> list[Example]:
    """A Parquet table with `image`, `sentence`, `label`, `split`, `identifier` and `order`; train or test.

    A sentence is true of its picture or false. The orders of one identifier are one question asked twice: `fields`
    has it, so that no split of yours straddles it.
    """
    (path,) = the_files(source, 1, "a Parquet table with image, sentence, label, split, identifier and order")
    rows = list(unpacked(path, source.images, ["sentence", "label", "split", "identifier", "order"]))
    split = needs_split(source, {row.text("split") for _, row in rows})
    examples = []
    for i, (image, row) in enumerate(rows):
        if row.text("split") == split:
            label = _truth(row)
            prefix = question_prefix(f"is it true? {row.text('sentence')}")
            examples.append(Example((image,), prefix, (label,), str(i), fields={"identifier": row.name("identifier")}))
    return not_empty(examples, source)


def _truth(row: Record) -> str:
    label: Any = row.get("label")
    label = str(label).lower()
    if label not in ("true", "false"):
        raise InputError(f"{row.where}: 'label': expected true or false, got {label!r:.60}")
    return label


def _answers(note: Record) -> tuple[str, ...]:
    """What people answered; of OKVQA `answer` is stemmed, and so big_vision learns it."""
    return tuple(one.text("answer") for one in note.records("answers"))


def _task(
    name: str,
    forms: str,
    read: Callable[[Published], list[Example]],
    metric: str,
    headline: str,
    transfer: TransferNumbers,
    splits: bool = False,
) -> Task:
    decode = DecodeNumbers(max_new_tokens=transfer.text_length)
    return Task(name, forms, read, metric, headline, transfer, decode, splits=splits)


VQAV2 = TransferNumbers(epochs=10, weight_decay=1e-6)
VQA = (
    _task("vqav2", "*questions.json and *annotations.json", read_cut_vqav2, "vqa", "vqa_accuracy", VQAV2, splits=True),
    _task("textvqa", "TextVQA_0.5.1_*.json", read_textvqa, "vqa", "vqa_accuracy", TransferNumbers(epochs=5, lr=3e-6)),
    _task("okvqa", "*questions.json and *annotations.json", read_vqav2, "vqa", "vqa_any3",
          TransferNumbers(epochs=10, batch_size=128, lr=5e-6)),
    _task("vizwiz", "train.json, val.json or test.json", read_vizwiz, "vqa", "vqa_any3",
          TransferNumbers(text_length=48)),
    _task("gqa", "*_questions.json", read_gqa, "exact", "exact_match", TransferNumbers(epochs=1)),
    _task("easy-vqa", "questions.json", read_easy_vqa, "exact", "exact_match", TransferNumbers()),
    _task("nlvr", "a Parquet table", read_nlvr, "exact", "exact_match", TransferNumbers(), splits=True),
)  # fmt: skip


def minival(examples: list[Example], count: int = 10_240) -> tuple[list[Example], list[Example]]:
    """VQAv2's validation as big_vision cuts it: what training may add, and the last 10,240 to measure on."""
    if len(examples) <= count:
        raise InputError(f"minival: {len(examples)} examples are no more than {count}; give VQAv2's validation set")
    return examples[:-count], examples[-count:]
