"""From `data.path` to a source: what a path means, and which class reads it."""

import glob
from pathlib import Path
from types import ModuleType

from vilex.data.config import DataConfig, SourceConfig
from vilex.data.indexed import FolderSource, HuggingFaceSource, ParquetSource
from vilex.data.streamed import HuggingFaceStream, ParquetStream, Stream, TarStream
from vilex.errors import InputError
from vilex.extras import needs

with needs("data"):
    import braceexpand

Indexed = FolderSource | ParquetSource | HuggingFaceSource
HUB = "hf:"


def open_sources(config: DataConfig) -> list[Indexed | Stream]:
    """The sources of a configuration, in order.

    Raises:
        InputError: a path is nothing that can be read as images.
    """
    return [open_source(source) for source in config.all_sources]


def open_source(config: SourceConfig) -> Indexed | Stream:
    """One source; see `SourceConfig.path` for what a path may be."""
    path = config.path
    if path.startswith(HUB):
        return _hugging_face(path.removeprefix(HUB), config)
    if path.startswith("pipe:") or "://" in path:
        return TarStream(list(braceexpand.braceexpand(path)), config)
    files = sorted({name for pattern in braceexpand.braceexpand(path) for name in glob.glob(pattern)})
    if not files:
        raise InputError(f"data.path: {path}: no such folder, Parquet table or tar shard")
    if len(files) == 1 and Path(files[0]).is_dir():
        return _folder(Path(files[0]), config)
    return _files([Path(name) for name in files], config)


def _folder(folder: Path, config: SourceConfig) -> Indexed | Stream:
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return HuggingFaceSource(_library().load_from_disk(str(folder)), config)
    for pattern in ("*.tar", "*.parquet"):
        if files := sorted(folder.glob(pattern)):
            return _files(files, config)
    return FolderSource(folder, config)


def _files(files: list[Path], config: SourceConfig) -> Indexed | Stream:
    if all(path.suffix == ".tar" or path.name.endswith(".tar.gz") for path in files):
        return TarStream([str(path) for path in files], config)
    if any(path.suffix == ".tar" for path in files):
        raise InputError(f"data.path: {config.path}: tar shards and other files together; give each its own source")
    return ParquetStream(files, config) if config.stream else ParquetSource(files, config)


def _hugging_face(name: str, config: SourceConfig) -> Indexed | Stream:
    datasets = _library()
    repository, _, subset = name.partition(":")
    try:
        dataset = datasets.load_dataset(repository, subset or None, split=config.split, streaming=config.stream)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"data.path: {config.path}: {str(error).splitlines()[0]}") from None
    return HuggingFaceStream(dataset, config) if config.stream else HuggingFaceSource(dataset, config)


def _library() -> ModuleType:
    with needs("data"):
        import datasets
    return datasets
