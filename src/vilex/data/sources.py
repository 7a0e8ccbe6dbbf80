"""From `data.path` to a source: what a path means, and which class reads it."""

import glob
import os
import warnings
from pathlib import Path
from typing import Any

from vilex.checks import instance
from vilex.data.config import DataConfig, SourceConfig
from vilex.data.indexed import FolderSource, HuggingFaceSource, ParquetSource
from vilex.data.streamed import HuggingFaceStream, ParquetStream, TarStream
from vilex.errors import InputError, printable
from vilex.extras import needs
from vilex.pictures.load import EXTENSIONS

with needs("data"):
    import braceexpand

Indexed = FolderSource | ParquetSource | HuggingFaceSource  # samples in any order, by number
Source = Indexed | TarStream | ParquetStream | HuggingFaceStream
HUB, PIPE = "hf:", "pipe:"
TARS = (".tar", ".tar.gz", ".tgz")


def open_sources(config: DataConfig) -> list[Source]:
    """The sources of a configuration, in order; see `open_source` for what raises."""
    return [open_source(source) for source in config.all_sources]


def open_source(config: SourceConfig, side: int | None = None) -> Source:
    """One source; see `SourceConfig.path` for what a path may be.

    Args:
        side: what its images will be brought to, see `vilex.pictures.load.load_image`; whole ones by default.
    Raises:
        InputError: a path is nothing that can be read as images, or a column is not there.
    """
    path = instance(config.path, str, "data.path", "a text")
    if path in ("", HUB):
        raise InputError(f"data.path: '{path}' names nothing; give a folder, tables, tar shards or hf:NAME")
    if path.startswith(HUB):
        return _hugging_face(path.removeprefix(HUB), config, side)
    if path.startswith(PIPE) and not config.allow_pipe:
        raise InputError(
            f"data.path: {path}: runs a shell command; if you trust whoever wrote it, set data.allow_pipe = true"
        )
    if path.startswith(PIPE) or "://" in path:
        return TarStream(_braces(path, config), config, side)
    files = files_of(config)
    folders = [file for file in files if file.is_dir()]
    if len(files) == 1 and folders:
        return _folder(files[0], config, side)
    if folders:
        raise InputError(f"data.path: {path}: several folders; give each its own [[data.sources]]")
    return _files(files, config, side)


def files_of(config: SourceConfig) -> list[Path]:
    """The files and folders that a path names, with `*`, `?`, `[...]` and `{...}` where no file is called that.

    Raises:
        InputError: there are none, or some of those that braces name are missing.
    """
    whole = Path(config.path)
    first, *parts = whole.parts or ("",)
    there, rest = (Path(first), parts) if os.path.lexists(first) else (Path(), [first, *parts])
    while rest and os.path.lexists(there / rest[0]):
        there, rest = there / rest[0], rest[1:]
    if not rest:
        return [there]
    names: set[str] = set()
    missing = []
    for pattern in _braces("/".join(rest), config):
        found = glob.glob(os.path.join(glob.escape(str(there)), pattern), recursive=True)
        names.update(found)
        if not found:
            missing.append(pattern)
    if not names:
        raise InputError(f"data.path: {config.path}: no such folder, Parquet table or tar shard")
    if missing:
        raise InputError(
            f"data.path: {config.path}: {len(missing)} of {len(missing) + len(names)} are not there, {missing[0]} "
            "the first; fetch them, or name only those that are"
        )
    return sorted(map(Path, names))


def _folder(folder: Path, config: SourceConfig, side: int | None) -> Source:
    if (folder / "dataset_dict.json").is_file():
        folder = folder / config.split
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return HuggingFaceSource(_library().load_from_disk(str(folder)), config, (folder,), side)
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"data.path: {folder}: cannot be read ({error.strerror})") from None
    for kinds in (TARS, (".parquet",)):
        if files := [path for path in inside if path.name.endswith(kinds)]:
            _warn_of_others(folder, files, inside)
            return _files(files, config, side)
    return FolderSource(folder, config, side)


def _warn_of_others(folder: Path, chosen: list[Path], inside: list[Path]) -> None:
    """Shards and tables are read in place of the images beside them; img2dataset's table of each shard is none."""
    keys = {path.name.partition(".")[0] for path in chosen}
    others = [
        path.name
        for path in inside
        if path not in chosen
        and (path.suffix.lower() in EXTENSIONS or (path.suffix == ".parquet" and path.stem not in keys))
    ]
    if others:
        more = f"{folder}: {len(chosen)} shards or tables are read, {chosen[0].name} the first, and none of the"
        warnings.warn(printable(f"{more} {len(others)} other files, {others[0]} the first"), stacklevel=2)


def _files(files: list[Path], config: SourceConfig, side: int | None) -> Source:
    tars = [path for path in files if path.name.endswith(TARS)]
    if len(tars) == len(files):
        return TarStream([str(path) for path in files], config, side)
    if tars:
        raise InputError(f"data.path: {config.path}: tar shards and other files together; give each its own source")
    if pictures := [path for path in files if path.suffix.lower() in EXTENSIONS]:
        raise InputError(f"data.path: {pictures[0]}: an image; give the folder it is in")
    return ParquetStream(files, config, side) if config.stream else ParquetSource(files, config, side)


def _hugging_face(name: str, config: SourceConfig, side: int | None) -> Source:
    """`NAME[@REVISION][:SUBSET]`, or a local folder."""
    datasets = _library()
    repository, revision, subset = name, "", ""
    if not Path(name).is_dir():
        repository, _, subset = name.partition(":")
        repository, _, revision = repository.partition("@")
    try:
        dataset = datasets.load_dataset(
            repository, subset or None, split=config.split, streaming=config.stream, revision=revision or None
        )
    except Exception as error:  # the library's own, the hub's, the network's, of files of every kind
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"data.path: {config.path}: {reason}") from None
    roots = _roots(repository)
    return (
        HuggingFaceStream(dataset, config, roots, side)
        if config.stream
        else HuggingFaceSource(dataset, config, roots, side)
    )


def _roots(repository: str) -> tuple[Path, ...]:
    """Where a dataset's own files lie."""
    if Path(repository).is_dir():
        return (Path(repository),)
    from huggingface_hub.constants import HF_HUB_CACHE

    downloads = _library().config.DOWNLOADED_DATASETS_PATH
    return Path(HF_HUB_CACHE, f"datasets--{repository.replace('/', '--')}"), Path(downloads)


def _braces(path: str, config: SourceConfig) -> list[str]:
    try:
        return list(braceexpand.braceexpand(path))
    except ValueError as error:
        raise InputError(f"data.path: {config.path}: braces do not match ({error})") from None


def _library() -> Any:
    with needs("data"):
        import datasets

    return datasets
