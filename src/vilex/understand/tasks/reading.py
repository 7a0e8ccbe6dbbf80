"""Published files opened with care: what is missing or odd is one line that names file and field."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vilex import checks
from vilex.data.example import decode_text
from vilex.errors import InputError
from vilex.extras import needs
from vilex.paths import replacing
from vilex.understand.tasks.task import Published

_PICKLED = frozenset({".p", ".pkl", ".pickle"})
_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp"}


class Record:
    """A JSON object that knows where it stands."""

    def __init__(self, values: Any, where: str):
        if not isinstance(values, dict):
            raise InputError(f"{where}: expected an object, got {values!r:.60}")
        self.values, self.where = values, where

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def get(self, key: str) -> Any:
        """What is there; raises InputError if nothing is."""
        if key not in self.values:
            raise InputError(f"{self.where}: no '{key}', only {', '.join(map(str, self.values))[:200] or 'nothing'}")
        return self.values[key]

    def text(self, key: str) -> str:
        """A text; raises InputError if it is none."""
        return checks.text(self.get(key), f"{self.where}: '{key}'")

    def whole(self, key: str) -> int:
        """A whole number from 0; raises InputError if it is none."""
        return checks.whole(self.get(key), f"{self.where}: '{key}'", 0, 2**63 - 1)

    def name(self, key: str) -> str:
        """A text or a whole number, as a text; raises InputError if it is neither."""
        return self.text(key) if isinstance(self.get(key), str) else str(self.whole(key))

    def list(self, key: str) -> list[Any]:
        """A list; raises InputError if it is none."""
        value = self.get(key)
        if not isinstance(value, list):
            raise InputError(f"{self.where}: '{key}': expected a list, got {value!r:.60}")
        return value

    def records(self, key: str) -> Iterator["Record"]:
        """A list of objects; raises InputError if it is none."""
        return (Record(value, f"{self.where}: {key}[{i}]") for i, value in enumerate(self.list(key)))

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; raises InputError if it is none."""
        return tuple(checks.text(one, f"{self.where}: {key}[{i}]") for i, one in enumerate(self.list(key)))


def read_json(path: Path) -> Any:
    """A JSON file's content.

    Raises:
        InputError: it cannot be read, is no JSON, or is a pickle, which is not opened.
    """
    _refuse_pickle(path)
    try:
        return json.loads(decode_text(path.read_bytes(), str(path)))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a JSON file") from None
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, InputError) else InputError(f"{path}: not valid JSON ({error})") from None


def _refuse_pickle(path: Path) -> None:
    if path.suffix.lower() in _PICKLED:
        convert = f"json.dump(pickle.load(open('{path.name}', 'rb')), open('{path.stem}.json', 'w'))"
        raise InputError(
            f"{path}: a pickle, which may run any program when it is opened, so it is not. Where you trust it, "
            f'make JSON of it: python -c "import json, pickle; {convert}"'
        )


def read_record(path: Path) -> Record:
    """A JSON file that holds an object; see `read_json`."""
    return Record(read_json(path), str(path))


def read_lines(path: Path) -> Iterator[Record]:
    """A JSON file of lines, each an object; raises InputError as `read_json`."""
    _refuse_pickle(path)
    try:
        lines = decode_text(path.read_bytes(), str(path)).split("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file of JSON lines") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield Record(json.loads(line), f"{path}: line {number}")
            except (ValueError, RecursionError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(f"{path}: line {number}: not valid JSON ({error})") from None


def the_files(source: Published, count: int, called: str) -> tuple[Path, ...]:
    """The files of a set, so many as its reader names; raises InputError if there are others."""
    if len(source.files) != count:
        found = ", ".join(map(str, source.files)) or "none"
        raise InputError(f"expected {called}, got {len(source.files)} files: {found}")
    return source.files


def needs_split(source: Published, known: set[str]) -> str:
    """The split that is asked for; raises InputError if the set has none of that name."""
    if not source.split:
        raise InputError(f"{source.files[0]}: holds several splits, of which none is named: {', '.join(sorted(known))}")
    if source.split not in known:
        raise InputError(f"{source.files[0]}: no split {source.split!r}; it has {', '.join(sorted(known))}")
    return source.split


def not_empty(examples: list[Any], source: Published) -> list[Any]:
    """The examples, if there are any; raises InputError if not."""
    if not examples:
        raise InputError(f"{source.files[0]}: no examples in it; is it the right file?")
    return examples


def unpacked(table: Path, folder: Path, columns: list[str]) -> Iterator[tuple[Path, Record]]:
    """A Parquet table's rows, each with its picture (column `image`) written out, once, into a folder.

    Raises:
        InputError: it is no such table, or the folder cannot be written.
    """
    with needs("data"):
        import pyarrow
        import pyarrow.parquet
    try:
        rows = pyarrow.parquet.read_table(table, columns=["image", *columns]).to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(f"{table}: {error}; expected a Parquet table with image, {', '.join(columns)}") from None
    for i, row in enumerate(rows):
        content = row.pop("image")
        content = content.get("bytes") if isinstance(content, dict) else content
        if not isinstance(content, bytes):
            raise InputError(f"{table}: row {i}: 'image': expected an image's bytes, got {type(content).__name__}")
        kind = next((suffix for start, suffix in _SUFFIXES.items() if content.startswith(start)), ".bin")
        path = folder / f"{table.stem}-{i:06d}{kind}"
        try:
            if not path.is_file() or path.stat().st_size != len(content):
                with replacing(path) as aside:
                    aside.write_bytes(content)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); give another folder of images") from None
        yield path, Record(row, f"{table}: row {i}")
