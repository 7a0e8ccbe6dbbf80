"""Pictures made ready for the encoder by data workers, which touch no device."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vilex.bulk.plan import ShardTask
from vilex.data.example import CaptionedImage
from vilex.data.loader import leave_signals_to_the_parent
from vilex.data.reading import read_part
from vilex.data.sources import Indexed, Source
from vilex.data.streamed import BrokenShard
from vilex.encoder.preprocess import Preprocess
from vilex.errors import InputError
from vilex.pictures.fit import Fit, much_cut


@dataclass(frozen=True)
class Prepared:
    """Some pictures of one task.

    Attributes:
        task: whose they are, by its place among the tasks. last: whether nothing more comes of the piece.
        pixel_values: [B, 3, S, S]; None if all were refused.
        names: of the B pictures. stamps: see `Contents`.
        refused: a line for each that was refused, by its name; without one, of the whole shard.
        cut: names of those that lose more than a third to the crop.
    """

    task: int
    last: bool
    pixel_values: Tensor | None = None
    names: list[str] = field(default_factory=list)
    stamps: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)

    def pin_memory(self) -> "Prepared":
        """What a `DataLoader` with `pin_memory` asks for."""
        return self if self.pixel_values is None else replace(self, pixel_values=self.pixel_values.pin_memory())


@dataclass(frozen=True)
class Piece:
    """What one worker reads at a time: a batch of rows, or a whole shard of a stream."""

    task: int
    part: int | tuple[int, ...]


def pieces_of(tasks: list[ShardTask], batch_size: int) -> list[Piece]:
    """The tasks, task by task, in pieces that workers can share."""
    pieces = []
    for number, task in enumerate(tasks):
        if task.shard is not None:
            pieces.append(Piece(number, task.shard))
        pieces += [Piece(number, task.rows[i : i + batch_size]) for i in range(0, len(task.rows), batch_size)]
    return pieces


class PreparedPieces(IterableDataset[Prepared]):
    """Pieces made ready, by each worker every so manieth of them."""

    def __init__(self, source: Source, pieces: list[Piece], batch_size: int, preprocess: Preprocess, fit: Fit):
        self.source, self.pieces, self.batch_size, self.preprocess = source, pieces, batch_size, preprocess
        self.fit = fit

    def __iter__(self) -> Iterator[Prepared]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for piece in self.pieces[first::step]:
            yield from self._read(piece)

    def _read(self, piece: Piece) -> Iterator[Prepared]:
        examples = zip(self._names(piece), read_part(self.source, piece.part), strict=False)
        part = list(islice(examples, self.batch_size))
        while True:
            following = list(islice(examples, self.batch_size))
            yield self._prepared(piece.task, part, last=not following)
            if not following:
                return
            part = following

    def _names(self, piece: Piece) -> Iterator[tuple[str, str]]:
        """Names and stamps of what is read; a stream's samples tell their names themselves, or none if broken."""
        if isinstance(self.source, Indexed):
            assert not isinstance(piece.part, int)
            yield from ((self.source.name(i), self.source.stamp(i)) for i in piece.part)
        while True:
            yield "", ""

    def _prepared(
        self, task: int, part: list[tuple[tuple[str, str], CaptionedImage | InputError]], last: bool
    ) -> Prepared:
        good = [(stamp, one) for (_, stamp), one in part if isinstance(one, CaptionedImage)]
        refused = [
            (name or ("" if isinstance(one, BrokenShard) else "?"), str(one))
            for (name, _), one in part
            if isinstance(one, InputError)
        ]
        pixel_values = self.preprocess([one.image for _, one in good]) if good else None
        names, stamps = [one.name for _, one in good], [stamp for stamp, _ in good]
        cut = [one.name for _, one in good if much_cut(one.image.size, self.fit)]
        return Prepared(task, last, pixel_values, names, stamps, refused, cut)


def prepared_by(workers: int, pieces: PreparedPieces, pin_memory: bool) -> DataLoader[Prepared]:
    """A loader whose `workers` processes read, decode and crop; 0 does so in this one."""
    return DataLoader(
        pieces,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=leave_signals_to_the_parent,
        generator=torch.Generator(),  # nothing is drawn: the process's own stays as it is
    )
