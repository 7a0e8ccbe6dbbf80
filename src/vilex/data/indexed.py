"""Sources with random access: folders of images, Parquet tables in memory, Hugging Face datasets."""

import json
import os
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from vilex.data.config import SourceConfig
from vilex.data.example import (
    CaptionedImage,
    caption_key,
    captions_in,
    captions_in_json,
    captions_in_text,
    decode_image,
    decode_text,
)
from vilex.errors import InputError, printable
from vilex.extras import needs
from vilex.pictures.load import EXTENSIONS, UNREAD, load_image

with needs("data"):
    import pyarrow
    import pyarrow.parquet

METADATA = "metadata.jsonl"


class FolderSource(Dataset[CaptionedImage]):
    """Every image below a folder and the folders it links to.

    Captions come from a `.txt` beside the image (one a line), a `.json` beside it, `a.txt` or `a.jpg.txt` for `a.jpg`,
    or the nearest `metadata.jsonl` above it (lines with `file_name`, as Hugging Face's image folders have them; an
    image of several lines has the captions of all).

    Args:
        side: see `vilex.pictures.load.load_image`.
    """

    def __init__(self, folder: Path, config: SourceConfig, side: int | None = None):
        self.folder, self.column, self.side = folder, config.caption_column, side
        files = sorted(files_below(folder))
        self.paths = [path for path in files if path.suffix.lower() in EXTENSIONS]
        if not self.paths:
            raise InputError(f"data.path: {folder}: no images below this folder")
        if unread := [path for path in files if path.suffix.lower() in UNREAD]:
            line = f"{folder}: {len(unread)} pictures of kinds that are not read, {unread[0]} the first; convert them"
            warnings.warn(printable(f"{line} to PNG or JPEG"), stacklevel=2)
        self.beside: dict[Path, Path] = {}
        self.listed: dict[Path, tuple[str, ...]] = {}
        if not self.column:
            return
        for suffix in (".json", ".txt"):
            self.beside |= {path.with_suffix(""): path for path in files if path.suffix.lower() == suffix}
        for table in sorted((path for path in files if path.name == METADATA), key=lambda path: len(path.parts)):
            self.listed |= _read_metadata(table, self.column, set(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> CaptionedImage:
        path = self.paths[index]
        return CaptionedImage(load_image(path, self.side), self._captions(path), self.name(index))

    def name(self, index: int) -> str:
        """The image's path below the folder."""
        return printable(self.paths[index].relative_to(self.folder))

    def stamp(self, index: int) -> str:
        """Something that changes when the image's file does."""
        return file_stamp(self.paths[index])

    def has_captions(self, index: int) -> bool:
        """Whether there is anything beside or above the image that captions are read from."""
        path = self.paths[index]
        return self._beside(path) is not None or bool(self.listed.get(path))

    def _beside(self, path: Path) -> Path | None:
        return self.beside.get(path.with_suffix("")) or self.beside.get(path)

    def _captions(self, path: Path) -> tuple[str, ...]:
        beside = self._beside(path)
        if beside is None:
            return self.listed.get(path, ())
        try:
            content = beside.read_bytes()
        except OSError as error:
            raise InputError(f"{beside}: cannot be read ({error.strerror})") from None
        if beside.suffix.lower() == ".txt":
            return captions_in_text(content, str(beside))
        return captions_in_json(content, self.column, str(beside))


class ParquetSource(Dataset[CaptionedImage]):
    """Tables held in memory, with encoded images (bytes, or Hugging Face's {bytes, path}) and captions."""

    def __init__(self, paths: list[Path], config: SourceConfig, side: int | None = None):
        self.paths, self.config, self.side = paths, config, side
        names = common_columns(paths, config)
        tables = [read_parquet(path).read(columns=names) for path in paths]
        self.ends = list(accumulate(len(table) for table in tables))
        try:
            self.table = pyarrow.concat_tables(tables, promote_options="permissive")
        except pyarrow.ArrowException as error:
            raise InputError(f"data.path: {paths[0]} and {len(paths) - 1} more: columns differ ({error})") from None
        if not len(self):
            raise InputError(f"data.path: {paths[0]}: no rows in it, or in any table beside it")

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> CaptionedImage:
        record = {name: self.table[name][index].as_py() for name in self.table.column_names}
        return row_to_example(record, self.config, self.name(index), (self._path(index).parent,), self.side)

    def name(self, index: int) -> str:
        """The table, and the row's number in it."""
        table = bisect_right(self.ends, index)
        return printable(f"{self.paths[table]} row {index - (self.ends[table - 1] if table else 0)}")

    def stamp(self, index: int) -> str:
        """Something that changes when the row's table does."""
        return file_stamp(self._path(index))

    def _path(self, index: int) -> Path:
        return self.paths[bisect_right(self.ends, index)]


class HuggingFaceSource(Dataset[CaptionedImage]):
    """A dataset of the `datasets` library, memory-mapped: from the hub, or saved with `save_to_disk`.

    Args:
        roots: the folders in which its rows may name files.
    """

    def __init__(self, dataset: Any, config: SourceConfig, roots: tuple[Path, ...] = (), side: int | None = None):
        self.config, self.dataset, self.roots, self.side = config, undecoded(dataset, config), roots, side
        if not len(self):
            raise InputError(f"data.path: {config.path}: a dataset without rows")

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> CaptionedImage:
        return row_to_example(self.dataset[index], self.config, self.name(index), self.roots, self.side)

    def name(self, index: int) -> str:
        """The dataset, and the row's number in it."""
        return f"{self.config.path} row {index}"

    def stamp(self, index: int) -> str:
        """Something that changes when the dataset does."""
        return str(self.dataset._fingerprint)


def row_to_example(
    record: dict[str, Any], config: SourceConfig, name: str, roots: tuple[Path, ...] = (), side: int | None = None
) -> CaptionedImage:
    """A table's row; see `decode_image` and `captions_in` for what raises."""
    image = decode_image(record.get(config.image_column), name, roots, side)
    return CaptionedImage(image, captions_in(record, config.caption_column, name), name)


def common_columns(paths: list[Path], config: SourceConfig) -> list[str]:
    """The columns of Parquet tables to read: images, and captions where there are some.

    Raises:
        InputError: a file is no Parquet table, or has no such columns.
    """
    columns = [chosen_columns(read_parquet(path).schema_arrow.names, str(path), config) for path in paths]
    for path, others in zip(paths, columns, strict=True):
        if others != columns[0]:
            raise InputError(
                f"data.path: {path} has the columns {', '.join(others)}, {paths[0]} {', '.join(columns[0])}; "
                "give each kind of table its own source, or name data.caption_column"
            )
    return columns[0]


def chosen_columns(names: list[str], where: str, config: SourceConfig) -> list[str]:
    """Of a table's columns those to read: of images, and of captions.

    Raises:
        InputError: `data.image_column` or `data.caption_column` is not among them.
    """
    if config.image_column not in names:
        raise InputError(f"data.image_column: {where} has no column '{config.image_column}', only {', '.join(names)}")
    try:
        captions = caption_key(names, config.caption_column)
    except InputError as error:
        raise InputError(f"data.caption_column: {where}: {error}") from None
    return [config.image_column, *([captions] if captions else [])]


def read_parquet(path: Path) -> Any:
    """A `pyarrow.parquet.ParquetFile`; raises InputError if it is none."""
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(f"data.path: {path}: cannot be read as Parquet ({error})") from None


def undecoded(dataset: Any, config: SourceConfig) -> Any:
    """The dataset's chosen columns, its images as bytes: what is broken must be named, not stop the library."""
    with needs("data"):
        import datasets

    names = dataset.column_names or list(next(iter(dataset), {}))
    dataset = dataset.select_columns(chosen_columns(names, config.path, config))
    if dataset.features and isinstance(dataset.features[config.image_column], datasets.Image):
        return dataset.cast_column(config.image_column, datasets.Image(decode=False))
    return dataset


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, by whichever link a folder is reached first, and each folder once.

    What macOS writes beside each file of another system, `._name`, is left out.
    """

    def stop(error: OSError) -> None:
        raise InputError(f"data.path: {error.filename}: cannot be read ({error.strerror})")

    seen = set()
    for where, folders, files in os.walk(folder, followlinks=True, onerror=stop):
        status = os.stat(where)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort(key=lambda name: (os.path.islink(os.path.join(where, name)), name))
        yield from (Path(where, name) for name in files if not name.startswith("._"))


def file_stamp(path: str | Path) -> str:
    """Size and time of a file's last change; empty where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def _read_metadata(table: Path, column: str, known: set[Path]) -> dict[Path, tuple[str, ...]]:
    """Captions by image; a line that names no image there is warned of."""
    listed: dict[Path, tuple[str, ...]] = {}
    strangers = []
    try:
        lines = decode_text(table.read_bytes(), str(table)).splitlines()
    except OSError as error:
        raise InputError(f"{table}: cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            path = table.parent / os.path.normpath(record["file_name"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{table} line {number}: expected an object with 'file_name' ({error})") from None
        listed[path] = (*listed.get(path, ()), *captions_in(record, column, f"{table} line {number}"))
        if path not in known:
            strangers.append(record["file_name"])
    if strangers:
        first = f"{table}: {len(strangers)} of its images are not there, {strangers[0]} the first"
        warnings.warn(printable(first), stacklevel=2)
    return listed


def refuse_among(sources: Sequence[Any], out: Path, said: str) -> None:
    """Raise InputError if pictures that are written to `out` would be read as data the next time.

    Args:
        said: the setting that names `out`.
    """
    for source in sources:
        if isinstance(source, FolderSource) and out.resolve().is_relative_to(source.folder.resolve()):
            raise InputError(
                f"{said}: {out} lies in the data, {source.folder}, and what is drawn would be read as data; "
                "give a folder elsewhere"
            )
