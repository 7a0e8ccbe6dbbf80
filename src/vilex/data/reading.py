"""A source from end to end, once and in order: for encoding and evaluating, where nothing is shuffled."""

from collections.abc import Iterator, Sequence
from functools import partial

from vilex.data.example import CaptionedImage
from vilex.data.sources import Indexed, Source
from vilex.data.streamed import guarded
from vilex.errors import InputError


def parts_of(source: Source, rows: int) -> list[int | range]:
    """A stream's shards by number, or runs of `rows` rows."""
    if isinstance(source, Indexed):
        return [range(i, min(i + rows, len(source))) for i in range(0, len(source), rows)]
    return list(range(len(source.shards)))


def read_part(source: Source, part: int | Sequence[int]) -> Iterator[CaptionedImage | InputError]:
    """A part's examples in order, and an InputError in the place of each broken one."""
    if isinstance(part, int):
        assert not isinstance(source, Indexed), "a part of a stream is the number of a shard, of others rows"
        samples = guarded(source, part)
    else:
        assert isinstance(source, Indexed)
        samples = (partial(source.__getitem__, i) for i in part)
    for sample in samples:
        try:
            yield sample if isinstance(sample, InputError) else sample()
        except InputError as error:
            yield error


def read_all(source: Source, refused: list[str]) -> Iterator[CaptionedImage]:
    """All good examples in order; a line for each broken one is added to `refused`."""
    for part in parts_of(source, rows=1000):
        for example in read_part(source, part):
            if isinstance(example, CaptionedImage):
                yield example
            else:
                refused.append(str(example))
