"""From sources to batches: cropped for both models, a caption drawn, what is broken left out and named."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from vilex.data.buckets import Size, drawn_and_seen, rows_by_size, together
from vilex.data.config import DataConfig
from vilex.data.example import CaptionedImage
from vilex.data.order import Batches, Visit
from vilex.data.sources import Indexed, Source
from vilex.data.streamed import Lane, Place
from vilex.errors import InputError
from vilex.pictures.fit import Fit
from vilex.pictures.pixels import to_pixels

LaneKey = tuple[int, int]  # source, lane


@dataclass
class Batch:
    """What one step learns from.

    Attributes:
        pixels: [B, 3, H, W] in -1..1, for the frozen model.
        pixel_values: [B, 3, S, S], for the tower.
        captions: B texts, empty where there are none.
        visits: [B], the samples' numbers in the run; they seed what is drawn for each.
        weights: [B], 1, or 0 for a black picture in the place of a broken sample.
        bad: a line for each broken sample.
        places: where the lanes of streams stand after this batch.
        sizes: (width, height) of each picture, in the upper left of its `pixels`, where they differ.
    """

    pixels: Tensor
    pixel_values: Tensor
    captions: list[str]
    visits: Tensor
    weights: Tensor
    bad: tuple[str, ...] = ()
    places: tuple[tuple[LaneKey, Place], ...] = ()
    sizes: tuple[Size, ...] = ()

    def __len__(self) -> int:
        return len(self.captions)

    def to(self, device: torch.device) -> "Batch":
        """The same with its pictures on a device; from pinned memory the copy does not hold up the caller."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in ("pixels", "pixel_values")}
        return replace(self, **moved)

    def pin_memory(self) -> "Batch":
        """What a `DataLoader` with `pin_memory` asks for."""
        return replace(self, pixels=self.pixels.pin_memory(), pixel_values=self.pixel_values.pin_memory())

    def split(self, size: int) -> Iterator["Batch"]:
        """Parts of at most `size` images, of one size each, without what is said of the whole batch."""
        if not self.sizes:
            for i in range(0, len(self), size):
                yield self._part(range(i, min(i + size, len(self))), slice(i, i + size), self.pixels)
        for (width, height), rows in rows_by_size(self.sizes).items():
            for i in range(0, len(rows), size):
                part = rows[i : i + size]
                yield self._part(part, part, self.pixels[:, :, :height, :width])

    def _part(self, rows: Sequence[int], index: slice | list[int], pixels: Tensor) -> "Batch":
        captions = [self.captions[row] for row in rows]
        return Batch(pixels[index], self.pixel_values[index], captions, self.visits[index], self.weights[index])


def make_loader(
    sources: list[Source],
    config: DataConfig,
    *,
    batch_size: int,
    seed: int,
    start: int,
    steps: int,
    image_size: int,
    preprocess: Callable[[list[Image.Image]], Tensor],
    rank: int = 0,
    world: int = 1,
    places: dict[LaneKey, Place] | None = None,
    pin_memory: bool = False,
    fit: Fit = "crop",
    sizes: Sequence[Size] = (),
) -> DataLoader[Batch]:
    """This rank's batches for steps `start` to `steps`.

    Args:
        batch_size: of all ranks together.
        image_size: the frozen model's, pixels a side. sizes: (width, height) of what is drawn, if not those; see
            `vilex.data.buckets.drawn_and_seen`.
        preprocess: images to the tower's input, on the CPU; it must have a pickle where workers are spawned.
        pin_memory: whether batches lie in pinned memory, from which a GPU can copy them while it works.
        places: where the lanes of streams stood after step `start`.
        fit: how images that are not square are brought to the frozen model's size.
    Raises:
        InputError: the batch cannot be shared out evenly, or a stream has fewer shards than readers.
    """
    if batch_size % world:
        raise InputError(f"run.batch_size: {batch_size} is no multiple of the {world} processes")
    lanes = world * max(1, config.workers)
    for source in sources:
        if not isinstance(source, Indexed) and len(source.shards) < lanes:
            raise InputError(
                f"data.path: {source.shards[0]}: {len(source.shards)} shards for {lanes} readers "
                f"({world} processes x {max(1, config.workers)} workers); lower data.workers, or split the shards"
            )
    counts = [len(source) if isinstance(source, Indexed) else None for source in sources]
    weights = [source.weight for source in config.all_sources]
    prepared = _Prepared(
        sources, config, seed, sizes or [(image_size, image_size)], fit, preprocess,
        first_lane=rank * max(1, config.workers), lanes=lanes, start=start, places=places or {},
    )  # fmt: skip
    return DataLoader[Batch](
        prepared,  # type: ignore[arg-type]  # samples, of which `collate` makes a batch
        batch_sampler=Batches(
            counts, weights, batch_size=batch_size, seed=seed, start=start, steps=steps, rank=rank, world=world
        ),
        num_workers=config.workers,
        collate_fn=prepared.collate,
        worker_init_fn=leave_signals_to_the_parent,
        pin_memory=pin_memory,
    )


def leave_signals_to_the_parent(worker: int) -> None:
    """A signal to the whole process group must not take the workers from a run that goes on to save.

    Workers end when their loader's iterator does, or when they find their parent gone. Why it ended while it was taking
    their batch is for the parent to tell: of a connection that it cut they say nothing.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    said = sys.excepthook
    sys.excepthook = lambda kind, *rest: None if issubclass(kind, (ConnectionError, EOFError)) else said(kind, *rest)


class _Prepared(Dataset["_Sample"]):
    """Visits made ready. In a worker it reads that worker's own lane of each stream."""

    def __init__(
        self,
        sources: list[Source],
        config: DataConfig,
        seed: int,
        sizes: Sequence[Size],
        fit: Fit,
        preprocess: Callable[[list[Image.Image]], Tensor],
        first_lane: int,
        lanes: int,
        start: int,
        places: dict[LaneKey, Place],
    ):
        self.sources, self.config, self.seed, self.sizes, self.fit = sources, config, seed, sizes, fit
        self.preprocess = preprocess
        self.first_lane, self.lanes, self.start, self.places = first_lane, lanes, start, places
        self.open: dict[int, tuple[Lane, Iterator[CaptionedImage | InputError]]] = {}

    def __getitem__(self, visit: Visit) -> "_Sample":
        rng = np.random.default_rng((self.seed, 1, visit.number))
        example = self._draw(visit)
        if isinstance(example, InputError):
            blank = Image.new("RGB", self.sizes[0])
            return _Sample(to_pixels(blank), self.preprocess([blank])[0], "", visit.number, str(example))
        image = example.image
        if self.config.flip and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        caption = example.captions[rng.integers(len(example.captions))] if example.captions else ""
        drawn, seen = drawn_and_seen(image, self.sizes, self.fit)
        return _Sample(to_pixels(drawn), self.preprocess([seen])[0], caption, visit.number, None)

    def collate(self, samples: list["_Sample"]) -> Batch:
        pixels, sizes = together([sample.pixels for sample in samples])
        return Batch(
            pixels,
            torch.stack([sample.pixel_values for sample in samples]),
            [sample.caption for sample in samples],
            torch.tensor([sample.visit for sample in samples]),
            torch.tensor([float(sample.bad is None) for sample in samples]),
            tuple(sample.bad for sample in samples if sample.bad is not None),
            tuple(((source, lane.lane), lane.place) for source, (lane, _) in self.open.items()),
            sizes,
        )

    def _draw(self, visit: Visit) -> CaptionedImage | InputError:
        source = self.sources[visit.source]
        if visit.index is None or not isinstance(source, Indexed):
            return next(self._lane(visit.source)[1])
        try:
            return source[visit.index]
        except InputError as error:
            return error

    def _lane(self, source: int) -> tuple[Lane, Iterator[CaptionedImage | InputError]]:
        if source not in self.open:
            worker = get_worker_info()
            # The loader deals batches to workers in turn, from worker 0 even where a run goes on.
            turn = (worker.id + self.start) % worker.num_workers if worker else 0
            number = self.first_lane + turn
            place = self.places.get((source, number), Place())
            stream = self.sources[source]
            assert not isinstance(stream, Indexed)
            lane = Lane(stream, number, self.lanes, self.seed, self.config.shuffle_chunk, place)
            self.open[source] = lane, iter(lane)
        return self.open[source]


@dataclass
class _Sample:
    pixels: Tensor
    pixel_values: Tensor
    caption: str
    visit: int
    bad: str | None
