"""A source from end to end, once and in order: for encoding and evaluating, where nothing is shuffled."""

from collections.abc import Iterator

from vilex.data.example import Example
from vilex.data.sources import Indexed
from vilex.data.streamed import Stream, guarded
from vilex.errors import InputError


def parts_of(source: Indexed | Stream, rows: int) -> list[int | range]:
    """A stream's shards by number, or runs of `rows` rows."""
    if not hasattr(source, "__len__"):
        return list(range(len(source.shards)))
    return [range(i, min(i + rows, len(source))) for i in range(0, len(source), rows)]


def read_part(source: Indexed | Stream, part: int | range) -> Iterator[Example | InputError]:
    """A part's examples in order, and an InputError in the place of each broken one."""
    samples = guarded(source, part) if isinstance(part, int) else (lambda i=i: source[i] for i in part)
    for sample in samples:
        try:
            yield sample if isinstance(sample, InputError) else sample()
        except InputError as error:
            yield error


def read_all(source: Indexed | Stream, refused: list[str]) -> Iterator[Example]:
    """All good examples in order; a line for each broken one is added to `refused`."""
    for part in parts_of(source, rows=1000):
        for example in read_part(source, part):
            if isinstance(example, Example):
                yield example
            else:
                refused.append(str(example))
