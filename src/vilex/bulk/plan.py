"""What is still to be encoded: shards and rows that are new, that have changed, or that failed before."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from vilex.bulk.shard import Contents
from vilex.data.sources import Indexed, Source


@dataclass(frozen=True)
class ShardTask:
    """A token shard to make, or to make again.

    Attributes:
        number: of the token shard.
        shard: of a stream, by its number.
        rows: of a source with random access: those to encode. Whatever else the token shard holds stays in it.
    """

    number: int
    shard: int | None = None
    rows: tuple[int, ...] = ()


def plan_tasks(source: Source, there: Mapping[int, Contents], rows: int) -> list[ShardTask]:
    """The tasks that are left.

    A stream's shard is read again if its file has changed, if it was broken, or if images were refused and whether
    the file has changed cannot be known. A row is encoded again if it has changed or was refused.

    Args:
        there: the token shards that exist, by number. rows: how many new rows make a token shard.
    """
    free = (number for number in itertools.count() if number not in there)
    if not isinstance(source, Indexed):
        made = {contents.part[0]: number for number, contents in there.items()}
        return [
            ShardTask(made[name] if name in made else next(free), shard)
            for shard, name in enumerate(source.shards)
            if name not in made or not _settled(there[made[name]], source.stamp(shard))
        ]
    index = {source.name(i): i for i in range(len(source))}
    tasks = []
    for number, contents in there.items():
        stamps = dict(zip(contents.names, contents.stamps, strict=True))
        failed = [name for name, _ in contents.refused]
        changed = [name for name in stamps if name in index and stamps[name] != source.stamp(index[name])]
        again = sorted(index[name] for name in {*failed, *changed} if name in index)
        if again:
            tasks.append(ShardTask(number, rows=tuple(again)))
        for name in (*stamps, *failed):
            index.pop(name, None)
    new = list(index.values())
    return tasks + [ShardTask(next(free), rows=tuple(new[i : i + rows])) for i in range(0, len(new), rows)]


def _settled(contents: Contents, stamp: str) -> bool:
    if contents.part[1] != stamp:
        return False
    broken = any(not name for name, _ in contents.refused)
    return not broken and (bool(stamp) or not contents.refused)
