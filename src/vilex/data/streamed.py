"""Sources read in order: WebDataset tar shards, Parquet by row groups, Hugging Face streams.

A stream is a list of shards. Every (rank, worker) pair has a lane of its own: each epoch shuffles the
shards and deals them to the lanes, so no sample is seen twice in an epoch; within a shard, samples are
shuffled in chunks. Where a lane stands is three numbers, so a run goes on at the very next sample.
"""

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vilex.data.config import SourceConfig
from vilex.data.example import (
    Example,
    captions_in_json,
    captions_in_text,
    decode_image,
)
from vilex.data.indexed import row_to_example, table_columns, undecoded
from vilex.errors import InputError
from vilex.extras import needs
from vilex.pictures.load import EXTENSIONS

with needs("data"):
    import pyarrow
    import pyarrow.parquet
    from webdataset.gopen import gopen
    from webdataset.tariterators import group_by_keys, tar_file_expander

Raw = Callable[[], Example]  # decodes one sample; raises InputError where it is broken


class Stream(Protocol):
    """Shards by name, each read from its beginning."""

    shards: list[str]

    def read(self, shard: int) -> Iterator[Raw]: ...


class TarStream:
    """WebDataset shards: local, `http(s)://`, `pipe:`; images with `.txt` or `.json` captions by key."""

    def __init__(self, shards: list[str], config: SourceConfig):
        self.shards, self.config = shards, config

    def read(self, shard: int) -> Iterator[Raw]:
        url = self.shards[shard]
        for sample in _whole_samples(url):
            yield lambda sample=sample: self._decode(sample, f"{url} {sample['__key__']}")

    def _decode(self, sample: dict[str, Any], name: str) -> Example:
        images = [key for key in sample if f".{key.rsplit('.', 1)[-1]}" in EXTENSIONS]
        if not images:
            raise InputError(f"{name}: no image, only {', '.join(k for k in sample if not k.startswith('__'))}")
        captions: tuple[str, ...] = ()
        if "txt" in sample:
            captions = captions_in_text(sample["txt"].decode("utf-8", errors="replace"))
        elif "json" in sample:
            captions = captions_in_json(sample["json"], self.config.caption_column, name)
        return Example(decode_image(sample[images[0]], name), captions, sample["__key__"])


def _whole_samples(url: str) -> Iterator[dict[str, Any]]:
    """A shard's samples, one behind: where a shard breaks off, its last sample may lack a file.

    Raises:
        OSError: the shard has no end. tarfile takes that for the end, wherever it falls between two files.
    """
    with gopen(url) as stream:
        read = _Watched(stream)
        held = None
        for sample in group_by_keys(tar_file_expander([{"url": url, "stream": read}])):
            if held is not None:
                yield held
            held = sample
        if read.plain and any(read.tail):
            raise OSError("unexpected end of data")
    if held is not None:
        yield held


class _Watched:
    """A byte stream that remembers what it is, and how it ended."""

    def __init__(self, stream: Any):
        self.stream, self.plain, self.tail = stream, None, b""

    def read(self, size: int = -1) -> bytes:
        content = self.stream.read(size)
        if self.plain is None:
            self.plain = content[257:262] == b"ustar"  # not compressed
        if content:
            self.tail = content[-tarfile.BLOCKSIZE :]
        return content


class ParquetStream:
    """Parquet tables, a row group a shard; only the groups at hand are in memory."""

    def __init__(self, paths: list[Path], config: SourceConfig):
        self.config, self.columns = config, table_columns(paths[0], config)
        self.groups = [(path, group) for path in paths for group in range(_row_groups(path))]
        self.shards = [f"{path} group {group}" for path, group in self.groups]

    def read(self, shard: int) -> Iterator[Raw]:
        path, group = self.groups[shard]
        table = pyarrow.parquet.ParquetFile(path).read_row_group(group, columns=self.columns)
        for row, record in enumerate(table.to_pylist()):
            yield lambda row=row, record=record: row_to_example(record, self.config, f"{self.shards[shard]} row {row}")


class HuggingFaceStream:
    """A streaming dataset of the `datasets` library, by its own shards."""

    def __init__(self, dataset: Any, config: SourceConfig):
        self.config, self.dataset = config, undecoded(dataset, config)
        self.shards = [f"{config.path} shard {i}" for i in range(dataset.num_shards)]

    def read(self, shard: int) -> Iterator[Raw]:
        part = self.dataset.shard(num_shards=len(self.shards), index=shard)
        for row, record in enumerate(part):
            yield lambda row=row, record=record: row_to_example(record, self.config, f"{self.shards[shard]} row {row}")


@dataclass(frozen=True)
class Place:
    """Where a lane stands: which epoch, which of its shards there, how many samples of that are taken."""

    epoch: int = 0
    shard: int = 0
    taken: int = 0


class Lane:
    """One reader's endless share of a stream.

    Args:
        lane, lanes: this reader's number, and how many there are.
        chunk: so many consecutive samples are held encoded, and shuffled among themselves.
        place: where to go on.
    """

    def __init__(self, stream: Stream, lane: int, lanes: int, seed: int, chunk: int, place: Place | None = None):
        self.stream, self.lane, self.lanes, self.seed, self.chunk = stream, lane, lanes, seed, chunk
        self.place = place or Place()
        self.first_epoch, self.read = self.place.epoch, 0

    def __iter__(self) -> Iterator[Example | InputError]:
        """Examples without end, and an InputError in the place of each broken one.

        After each, `place` says where the next one is. A whole epoch without samples is an InputError too.
        """
        while True:
            order = np.random.default_rng((self.seed, self.place.epoch)).permutation(len(self.stream.shards))
            before = self.read
            for position, shard in list(enumerate(order[self.lane :: self.lanes].tolist()))[self.place.shard :]:
                yield from self._read(shard, position)
            if self.read == before and self.place.epoch > self.first_epoch:
                yield InputError(f"data.path: {self.stream.shards[0]} and others: no samples in any of these shards")
            self.place = Place(self.place.epoch + 1)

    def _read(self, shard: int, position: int) -> Iterator[Example | InputError]:
        number, skip = divmod(self.place.taken, self.chunk)
        samples = guarded(self.stream, shard)
        next(islice(samples, number * self.chunk, number * self.chunk), None)  # read past what was taken
        while chunk := list(islice(samples, self.chunk)):
            rng = np.random.default_rng((self.seed, self.place.epoch, shard, number))
            for i in rng.permutation(len(chunk))[skip:]:
                self.place = replace(self.place, taken=self.place.taken + 1)
                self.read += 1
                yield _decoded(chunk[i])
            number, skip = number + 1, 0
        self.place = Place(self.place.epoch, position + 1)


def guarded(stream: Stream, shard: int) -> Iterator[Raw | InputError]:
    """A shard's samples; what breaks off in the middle ends with one error that names the shard."""
    try:
        yield from stream.read(shard)
    except Exception as error:
        yield InputError(f"{stream.shards[shard]}: broken shard, the rest of it is lost ({_reason(error)})")


def _reason(error: Exception) -> str:
    """An error's own words; webdataset appends streams and addresses to its arguments."""
    return str(error.args[0] if error.args else type(error).__name__).split(" @ <")[0]


def _decoded(sample: Raw | InputError) -> Example | InputError:
    if isinstance(sample, InputError):
        return sample
    try:
        return sample()
    except InputError as error:
        return error


def _row_groups(path: Path) -> int:
    try:
        return pyarrow.parquet.ParquetFile(path).num_row_groups
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"data.path: {path}: cannot be read as Parquet ({error})") from None
