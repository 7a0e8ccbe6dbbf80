"""Sources read in order: WebDataset tar shards, Parquet by row groups, Hugging Face streams.

A stream is a list of shards. Every (rank, worker) pair has a lane of its own: in each of its rounds the
shards are shuffled and dealt to the lanes, and it gives every sample of its share once; within a shard, samples
are shuffled in chunks. Where a lane stands is three numbers, so a run goes on at the very next sample.

All lanes give equally many samples, whatever they hold: where shards are of unequal size, or do not go into the
number of lanes, one with less begins its next round while another is in the middle of one.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vilex.data.config import SourceConfig
from vilex.data.example import CaptionedImage, captions_in_json, captions_in_text, decode_image
from vilex.data.indexed import common_columns, file_stamp, read_parquet, row_to_example, undecoded
from vilex.data.tar import TarSample, read_samples
from vilex.errors import InputError

Raw = Callable[[], CaptionedImage]  # decodes one sample; raises InputError where it is broken


class Stream(Protocol):
    """Shards by name, each read from its beginning."""

    shards: list[str]

    def read(self, shard: int) -> Iterator[Raw | InputError]:
        """A shard's samples in order, not decoded yet; an error in the place of each that cannot be read."""

    def stamp(self, shard: int) -> str:
        """Something that changes when the shard does; empty where that cannot be known."""
        ...


class TarStream:
    """WebDataset shards: local, `http(s)://`, `pipe:`; images with `.txt` or `.json` captions by key."""

    def __init__(self, shards: list[str], config: SourceConfig, side: int | None = None):
        self.shards, self.config, self.side = shards, config, side

    def read(self, shard: int) -> Iterator[Raw | InputError]:
        for sample in read_samples(self.shards[shard]):
            if isinstance(sample, InputError):
                yield sample
            else:
                yield partial(self._decode, sample, f"{self.shards[shard]} {sample.key}")

    def stamp(self, shard: int) -> str:
        return file_stamp(self.shards[shard])

    def _decode(self, sample: TarSample, name: str) -> CaptionedImage:
        captions: tuple[str, ...] = ()
        if self.config.caption_column and ".txt" in sample.captions:
            captions = captions_in_text(sample.captions[".txt"], name)
        elif self.config.caption_column and ".json" in sample.captions:
            captions = captions_in_json(sample.captions[".json"], self.config.caption_column, name)
        return CaptionedImage(decode_image(sample.image, name, side=self.side), captions, sample.key)


class ParquetStream:
    """Parquet tables, a row group a shard; only the groups at hand are in memory."""

    def __init__(self, paths: list[Path], config: SourceConfig, side: int | None = None):
        self.config, self.side, self.columns = config, side, common_columns(paths, config)
        self.groups = [(path, group) for path in paths for group in range(read_parquet(path).num_row_groups)]
        self.shards = [f"{path} group {group}" for path, group in self.groups]
        if not any(self.rows(shard) for shard in range(len(self.shards))):
            raise InputError(f"data.path: {paths[0]}: no rows in it, or in any table beside it")

    def read(self, shard: int) -> Iterator[Raw | InputError]:
        path, group = self.groups[shard]
        table = read_parquet(path).read_row_group(group, columns=self.columns)
        for row, record in enumerate(table.to_pylist()):
            name = f"{self.shards[shard]} row {row}"
            yield partial(row_to_example, record, self.config, name, (path.parent,), self.side)

    def rows(self, shard: int) -> int:
        """How many rows a shard has."""
        path, group = self.groups[shard]
        return int(read_parquet(path).metadata.row_group(group).num_rows)

    def stamp(self, shard: int) -> str:
        return file_stamp(self.groups[shard][0])


class HuggingFaceStream:
    """A streaming dataset of the `datasets` library, by its own shards.

    Args:
        roots: the folders in which its rows may name files.
    """

    def __init__(self, dataset: Any, config: SourceConfig, roots: tuple[Path, ...] = (), side: int | None = None):
        self.config, self.dataset, self.roots, self.side = config, undecoded(dataset, config), roots, side
        self.shards = [f"{config.path} shard {i}" for i in range(dataset.num_shards)]

    def read(self, shard: int) -> Iterator[Raw | InputError]:
        part = self.dataset.shard(num_shards=len(self.shards), index=shard)
        for row, record in enumerate(part):
            name = f"{self.shards[shard]} row {row}"
            yield partial(row_to_example, record, self.config, name, self.roots, self.side)

    def stamp(self, shard: int) -> str:
        return ""


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

    def __iter__(self) -> Iterator[CaptionedImage | InputError]:
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

    def _read(self, shard: int, position: int) -> Iterator[CaptionedImage | InputError]:
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


class BrokenShard(InputError):
    """A shard that breaks off: what comes after is lost."""


def guarded(stream: Stream, shard: int) -> Iterator[Raw | InputError]:
    """A shard's samples; what breaks off in the middle ends with one error that names the shard."""
    try:
        yield from stream.read(shard)
    except Exception as error:
        yield BrokenShard(f"{stream.shards[shard]}: broken shard, the rest of it is lost ({_reason(error)})")


def _reason(error: Exception) -> str:
    """An error's own words; webdataset appends streams and addresses to its arguments."""
    if status := re.search(r"exit (-?\d+) \(read\)", str(error)):
        return f"its command ended with status {status[1]}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error.args[0] if error.args else type(error).__name__).split(" @ <")[0]


def _decoded(sample: Raw | InputError) -> CaptionedImage | InputError:
    if isinstance(sample, InputError):
        return sample
    try:
        return sample()
    except InputError as error:
        return error
