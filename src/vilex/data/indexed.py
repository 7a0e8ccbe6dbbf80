"""Sources with random access: folders of images, Parquet tables in memory, Hugging Face datasets."""

import json
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from vilex.data.config import SourceConfig
from vilex.data.example import (
    CAPTION_KEYS,
    Example,
    captions_in,
    captions_in_json,
    captions_in_text,
    decode_image,
)
from vilex.errors import InputError
from vilex.extras import needs
from vilex.pictures.load import EXTENSIONS, load_image

with needs("data"):
    import pyarrow
    import pyarrow.parquet

METADATA = "metadata.jsonl"


class FolderSource(Dataset):
    """Every image below a folder.

    Captions come from a `.txt` beside the image (one a line), a `.json` beside it, or the nearest
    `metadata.jsonl` above it (lines with `file_name`, as Hugging Face's image folders have them).
    """

    def __init__(self, folder: Path, config: SourceConfig):
        self.folder, self.column = folder, config.caption_column
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
        if not self.paths:
            raise InputError(f"data.path: {folder}: no images below this folder")
        self.listed: dict[Path, tuple[str, ...]] = {}
        for table in sorted(folder.rglob(METADATA), key=lambda path: len(path.parts)):
            self.listed |= _read_metadata(table, self.column)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Example:
        path = self.paths[index]
        return Example(load_image(path), self._captions(path), str(path.relative_to(self.folder)))

    def _captions(self, path: Path) -> tuple[str, ...]:
        if (beside := path.with_suffix(".txt")).is_file():
            return captions_in_text(beside.read_text(encoding="utf-8"))
        if (beside := path.with_suffix(".json")).is_file():
            return captions_in_json(beside.read_text(encoding="utf-8"), self.column, str(beside))
        return self.listed.get(path, ())


class ParquetSource(Dataset):
    """Tables held in memory, with encoded images (bytes, or Hugging Face's {bytes, path}) and captions."""

    def __init__(self, paths: list[Path], config: SourceConfig):
        self.config = config
        self.name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        names = table_columns(paths[0], config)
        try:
            self.table = pyarrow.concat_tables([pyarrow.parquet.read_table(path, columns=names) for path in paths])
        except (OSError, pyarrow.ArrowException) as error:
            raise InputError(f"data.path: {self.name}: cannot be read as Parquet ({error})") from None

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Example:
        record = {name: self.table[name][index].as_py() for name in self.table.column_names}
        return row_to_example(record, self.config, f"{self.name} row {index}")


class HuggingFaceSource(Dataset):
    """A dataset of the `datasets` library, memory-mapped: from the hub, or saved with `save_to_disk`."""

    def __init__(self, dataset: Any, config: SourceConfig):
        self.config, self.dataset = config, undecoded(dataset, config)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Example:
        return row_to_example(self.dataset[index], self.config, f"{self.config.path} row {index}")


def row_to_example(record: dict[str, Any], config: SourceConfig, name: str) -> Example:
    image = decode_image(record[config.image_column], name)
    return Example(image, captions_in(record, config.caption_column, name), name)


def table_columns(path: Path, config: SourceConfig) -> list[str]:
    """The columns of a Parquet table to read: images, and captions under the first known name.

    Raises:
        InputError: the file is no Parquet table, or has no such image column.
    """
    try:
        names = pyarrow.parquet.read_schema(path).names
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"data.path: {path}: cannot be read as Parquet ({error})") from None
    check_image_column(names, str(path), config)
    captions = [name for name in (config.caption_column, *CAPTION_KEYS) if name in names]
    return [config.image_column, *captions[:1]]


def check_image_column(names: list[str], where: str, config: SourceConfig) -> None:
    """Raises InputError if the image column is not among a table's names."""
    if config.image_column not in names:
        raise InputError(f"data.image_column: {where} has no column '{config.image_column}', only {', '.join(names)}")


def undecoded(dataset: Any, config: SourceConfig) -> Any:
    """The dataset with its images as bytes: what is broken must be named, not stop the library."""
    with needs("data"):
        import datasets

    check_image_column(dataset.column_names, config.path, config)
    if isinstance(dataset.features[config.image_column], datasets.Image):
        return dataset.cast_column(config.image_column, datasets.Image(decode=False))
    return dataset


def _read_metadata(table: Path, column: str) -> dict[Path, tuple[str, ...]]:
    listed = {}
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            path = table.parent / record["file_name"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{table} line {number}: expected an object with 'file_name' ({error})") from None
        listed[path] = captions_in(record, column, f"{table} line {number}")
    return listed
