"""One form of example for every task, and the JSON lines that hold it, as big_vision's and Roboflow's users know them:

    {"image": "cat.jpg", "prefix": "answer en what is it?", "suffix": ["cat", "a cat"], "id": "7", "category": "animal"}

`image` may be a list (the frames of a video), `suffix` a text or a list, and missing where nothing is learnt;
`references` are what an answer is scored against, if that is not the suffixes. All other keys are kept as `fields`.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from vilex import checks
from vilex.data.example import decode_text
from vilex.errors import InputError
from vilex.paths import file_name, replacing

OWN_KEYS = ("image", "prefix", "suffix", "id", "references")


@dataclass(frozen=True)
class Example:
    """What is shown, asked and answered.

    Attributes:
        images: paths or PIL images; several are the frames of a video, in order.
        prefix: what the model is given. suffixes: what it may answer, one of which is learnt at a time.
        id: of no other example of its file.
        references: what an answer is scored against; the suffixes where none are given.
        fields: all else that a metric or a table asks for, as `question_type`.
    """

    images: tuple[Path | Image.Image, ...]
    prefix: str
    suffixes: tuple[str, ...] = ()
    id: str = ""
    references: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def truths(self) -> tuple[str, ...]:
        """What an answer is scored against."""
        return self.references or self.suffixes


def read_examples(path: Path, root: Path | None = None) -> list[Example]:
    """The examples of a file of JSON lines, in order.

    Args:
        root: the folder below which the pictures lie, and to which they are relative; that of the file by default.
    Raises:
        InputError: the file cannot be read, or a line is no example; the error names line and key. Whether a picture
            is there is seen when it is opened.
    """
    root = root or path.parent
    examples: list[Example] = []
    lines: dict[str, int] = {}
    for number, text in _lines(path):
        example = _parse(text, f"{path}: line {number}", root, str(number))
        if (before := lines.setdefault(example.id, number)) != number:
            raise InputError(f"{path}: line {number}: 'id': {example.id!r} is that of line {before}; give each its own")
        examples.append(example)
    if not examples:
        raise InputError(f"{path}: no examples; give a JSON object a line, with image, prefix and suffix")
    return examples


def texts_of(examples: Iterable[Example]) -> Iterator[str]:
    """All that is asked and answered, text by text."""
    for example in examples:
        yield from (example.prefix, *example.suffixes)


def write_examples(path: Path, examples: Iterable[Example], root: Path | None = None) -> int:
    """Write examples as JSON lines, whole or not at all; pictures in memory go beside as PNG, into a folder.

    Args:
        root: as `read_examples` will be given it.
    Returns:
        How many there were.
    Raises:
        InputError: a picture lies outside `root`, or a field is called as a key of the form.
    """
    root, count = root or path.parent, 0
    with replacing(path) as aside, aside.open("w", encoding="utf-8") as file:
        for example in examples:
            file.write(json.dumps(_record(example, path, root), ensure_ascii=False) + "\n")
            count += 1
    return count


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file of JSON lines") from None
    for number, line in enumerate(decode_text(content, str(path)).split("\n"), 1):
        if line.strip():
            yield number, line


def _parse(text: str, where: str, root: Path, number: str) -> Example:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON ({error})") from None
    if not isinstance(record, dict):
        raise InputError(f"{where}: expected an object with image, prefix and suffix, got {text:.60}")
    for key in ("image", "prefix"):
        if key not in record:
            raise InputError(f"{where}: no '{key}', only {', '.join(record) or 'nothing'}")
    name = record.get("id", number)
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise InputError(f"{where}: 'id': expected a text or a whole number, got {name!r:.60}")
    return Example(
        images=tuple(inside(root, one, f"{where}: 'image'") for one in texts(record, "image", where)),
        prefix=checks.text(record["prefix"], f"{where}: 'prefix'"),
        suffixes=texts(record, "suffix", where) if "suffix" in record else (),
        id=str(name),
        references=texts(record, "references", where) if "references" in record else (),
        fields={key: value for key, value in record.items() if key not in OWN_KEYS},
    )


def texts(record: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """What a record holds under a key, a text or a list of texts, as a tuple of at least one.

    Raises:
        InputError: it is something else; the line names the key.
    """
    value = record.get(key)
    if isinstance(value, list | str):
        return tuple(checks.one_or_more(value, f"{where}: '{key}'", checks.text))
    raise InputError(f"{where}: '{key}': expected a text or a list of texts, got {value!r:.60}")


def inside(root: Path, name: str, where: str) -> Path:
    """A file that a record names, below `root`.

    Raises:
        InputError: it lies elsewhere.
    """
    whole, home = os.path.normpath(root.absolute() / name), os.path.normpath(root.absolute())
    if not Path(whole).is_relative_to(home):
        raise InputError(f"{where}: '{name}' lies outside {root}; give a folder above it as the root")
    return root / os.path.relpath(whole, home)


def _record(example: Example, path: Path, root: Path) -> dict[str, Any]:
    if taken := [key for key in example.fields if key in OWN_KEYS]:
        raise InputError(f"{path}: example {example.id}: a field cannot be called '{taken[0]}'; call it otherwise")
    names = [_saved(image, i, example, path, root) for i, image in enumerate(example.images)]
    record: dict[str, Any] = {"image": names[0] if len(names) == 1 else names, "prefix": example.prefix}
    if example.suffixes:
        record["suffix"] = example.suffixes[0] if len(example.suffixes) == 1 else list(example.suffixes)
    record["id"] = example.id
    if example.references:
        record["references"] = list(example.references)
    return record | dict(example.fields)


def _saved(image: Path | Image.Image, i: int, example: Example, path: Path, root: Path) -> str:
    """A picture's name below `root`."""
    if isinstance(image, Image.Image):
        made = path.with_suffix("") / f"{file_name(example.id)}-{i}.png"
        made.parent.mkdir(parents=True, exist_ok=True)
        image.save(made)
        image = made
    return inside(root, str(image.absolute()), f"{path}: example {example.id}").relative_to(root).as_posix()
