"""The line a run begins with: images and captions found, the batch, and what it goes on from."""

from pathlib import Path
from typing import Any

from vilex.data.example import CAPTION_KEYS
from vilex.data.indexed import METADATA, FolderSource, ParquetSource
from vilex.data.streamed import TarStream
from vilex.train.config import TrainConfig


def opening(config: TrainConfig, sources: list[Any], world: int, step: int, resumed: Path | None) -> str:
    """One line.

    Args:
        world: processes. step, resumed: where the run goes on, and from which checkpoint; None if it is new.
    """
    run, part = config.run, config.run.batch_size // world
    named = zip(config.data.all_sources, sources, strict=True)
    found = "; ".join(f"{one.path}: {found_in(source)}" for one, source in named)
    micro = f", {run.micro_batch} at once" if run.micro_batch and run.micro_batch < part else ""
    batch = f"batch {run.batch_size} = {world} process{'es' * (world > 1)} x {part}{micro}"
    begins = f"goes on from step {step} of {run.steps} ({resumed})" if resumed else f"new, {run.steps} steps"
    return f"{found} | {batch} | {run.out}: {begins}"


def found_in(source: Any) -> str:
    """Images and captions of a source, as far as they can be counted without reading it."""
    if isinstance(source, FolderSource):
        return f"{len(source)} images, {_captioned(source)} with captions"
    if isinstance(source, TarStream):
        return f"{len(source.shards)} shards; images and captions are counted as they are read"
    size = f"{len(source.shards)} shards" if hasattr(source, "shards") else f"{len(source)} images"
    column = _caption_column(source)
    return f"{size}, captions in column '{column}'" if column else f"{size}, no captions"


def _captioned(source: FolderSource) -> int:
    beside = {path.with_suffix("") for suffix in ("txt", "json") for path in source.folder.rglob(f"*.{suffix}")}
    beside -= {path.with_suffix("") for path in source.folder.rglob(METADATA)}
    return sum(path.with_suffix("") in beside or bool(source.listed.get(path)) for path in source.paths)


def _caption_column(source: Any) -> str | None:
    """The column of a table that captions are read from."""
    if isinstance(source, ParquetSource):
        names = source.table.column_names
    elif hasattr(source, "columns"):
        names = source.columns
    else:
        names = source.dataset.column_names or []
    return next((name for name in (source.config.caption_column, *CAPTION_KEYS) if name in names), None)
