"""What a source holds, as far as that can be known without reading it through: the line a run begins with."""

from dataclasses import dataclass
from itertools import islice

from vilex.data.example import CaptionedImage, caption_key
from vilex.data.indexed import FolderSource, HuggingFaceSource, ParquetSource
from vilex.data.reading import read_part
from vilex.data.sources import Indexed, Source
from vilex.data.streamed import ParquetStream, TarStream
from vilex.data.tar import read_samples
from vilex.errors import InputError

LOOKED_AT = 1000  # samples of a stream's first shard
SEEN = 16  # images that are decoded to know their sizes


@dataclass(frozen=True)
class Found:
    """Images and captions found.

    Attributes:
        images: all of them; None where only reading would tell.
        captioned: how many have captions; None where only reading would tell.
        shards: of a stream.
        sampled: of the first samples of a stream's first shard how many there are, and how many have captions; None
            where that would run a command or fetch something.
        column: of a table, where captions are if there are some.
    """

    images: int | None
    captioned: int | None
    shards: int | None = None
    sampled: tuple[int, int] | None = None
    column: str | None = None

    def __str__(self) -> str:
        said = [f"{self.shards} shard{'s' * (self.shards != 1)}"] if self.shards is not None else []
        if self.images is not None:
            said.append(f"{self.images} image{'s' * (self.images != 1)}")
        if self.captioned is not None:
            said.append(f"{self.captioned} with captions")
        elif self.column:
            said.append(f"captions in column '{self.column}'")
        if self.sampled is not None:
            said.append(f"of the first {self.sampled[0]} images {self.sampled[1]} with captions")
        if self.images is None and self.sampled is None:
            said.append("images are counted as they are read")
        return ", ".join(said)


def count_found(source: Source) -> Found:
    """Images and captions of a source, from names, columns and the first shard."""
    if isinstance(source, FolderSource):
        return Found(len(source), sum(source.has_captions(i) for i in range(len(source))))
    if isinstance(source, TarStream):
        return Found(None, None, len(source.shards), _look_into(source))
    if isinstance(source, ParquetSource):
        key = caption_key(source.table.column_names, source.config.caption_column)
        return Found(len(source), len(source) - source.table[key].null_count if key else 0)
    if isinstance(source, HuggingFaceSource):
        key = caption_key(source.dataset.column_names, source.config.caption_column)
        return Found(len(source), len(source) - source.dataset.data.column(key).null_count if key else 0)
    if isinstance(source, ParquetStream):
        key = caption_key(source.columns, source.config.caption_column)
        images = sum(source.rows(shard) for shard in range(len(source.shards)))
        return Found(images, None if key else 0, len(source.shards), column=key)
    key = caption_key(source.dataset.column_names, source.config.caption_column)
    return Found(None, None if key else 0, len(source.shards), column=key)


def first_sizes(source: Source) -> list[tuple[str, tuple[int, int]]]:
    """Name and size of the first few images; of a stream that would have to be fetched, of none."""
    part: int | range = 0
    if isinstance(source, Indexed):
        part = range(min(SEEN, len(source)))
    elif not source.stamp(0):
        return []
    seen = islice(read_part(source, part), SEEN)
    return [(one.name, one.image.size) for one in seen if isinstance(one, CaptionedImage)]


def _look_into(source: TarStream) -> tuple[int, int] | None:
    if not source.stamp(0):
        return None
    try:
        samples = [one for one in islice(read_samples(source.shards[0]), LOOKED_AT) if not isinstance(one, InputError)]
    except Exception:  # a broken shard is named when it is read
        return None
    return len(samples), sum(bool(one.captions) and bool(source.config.caption_column) for one in samples)
