"""WebDataset shards: a tar's members to samples, none mixed up, none lost without a word.

The files of a sample stand together and share a key, the name up to its first dot: `0001.jpg`, `0001.txt`. What has
a word more belongs to the picture and is none itself: `0001.mask.png`. A number after the first dot belongs to the
key (`photo 2.0.jpg` and `photo 2.1.jpg` are two samples), and so does anything that has captions of its own.
"""

import posixpath
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from vilex.errors import InputError, printable
from vilex.extras import needs
from vilex.pictures.load import EXTENSIONS

with needs("data"):
    from webdataset.gopen import gopen

CAPTIONS = (".txt", ".json")  # the first that is there counts


@dataclass(frozen=True)
class TarSample:
    """A picture's bytes, and those of the files of captions by suffix (`.txt`, `.json`)."""

    key: str
    image: bytes
    captions: dict[str, bytes] = field(default_factory=dict)


def read_samples(url: str) -> Iterator[TarSample | InputError]:
    """A shard's samples in order, an error in the place of each that has not just one picture.

    Raises:
        OSError, tarfile.TarError: the shard is broken; what was whole has been given by then.
    """
    for members in whole_groups(url):
        try:
            yield from samples_of(members)
        except InputError as error:
            yield InputError(f"{url} {error}")


def whole_groups(url: str) -> Iterator[dict[str, bytes]]:
    """Members that share a key, one group behind: where a shard breaks off, its last one may lack a file.

    Raises:
        OSError: the shard has no end. tarfile takes that for the end, wherever it falls between two files.
    """
    with _opened(url) as stream:
        read = _Watched(stream)
        group: dict[str, bytes] = {}
        for name, content in _members(read):
            if group and group_key(name) != group_key(next(iter(group))):
                yield group
                group = {}
            if name in group:
                raise OSError(f"{name} stands in it twice")
            group[name] = content
        if read.plain and any(read.tail):
            raise OSError("unexpected end of data")
    if group:
        yield group


def group_key(name: str) -> str:
    """A member's folder and name up to its first dot; a dot in front belongs to the name."""
    folder, file = posixpath.split(name)
    return posixpath.join(folder, file[:1] + file[1:].partition(".")[0])


def samples_of(members: dict[str, bytes]) -> list[TarSample]:
    """The samples among members of one `group_key`; see above for what makes one.

    Raises:
        InputError: there is no picture, or it cannot be told which one of several is.
    """
    pictures: dict[str, list[str]] = {}
    captions: dict[str, dict[str, bytes]] = {}
    for name, content in members.items():
        stem, suffix = posixpath.splitext(name)
        if suffix.lower() in EXTENSIONS:
            pictures.setdefault(stem, []).append(name)
        elif suffix.lower() in CAPTIONS:
            captions.setdefault(stem, {})[suffix.lower()] = content
    for stem, names in pictures.items():  # `a.jpg.txt` is of `a.jpg`
        for name in captions.keys() & set(names):
            captions.setdefault(stem, captions.pop(name))
    key = group_key(next(iter(members)))
    if not pictures:
        raise InputError(f"{key}: no image, only {', '.join(members)}")
    stems = [stem for stem in pictures if stem == key or stem in captions or stem[len(key) + 1 :][:1].isdigit()]
    if not stems and len(pictures) == 1:
        stem = next(iter(pictures))
        return [TarSample(printable(key), members[pictures[stem][0]], captions.get(key, {}))]
    if not stems:
        raise InputError(f"{key}: several images, {', '.join(pictures)}; name the picture {key}.jpg")
    for stem in stems:
        if len(pictures[stem]) > 1:
            raise InputError(f"{stem}: two images, {' and '.join(pictures[stem])}; name one of them {stem}.other.png")
    if key in captions and key not in stems:
        raise InputError(f"{key}: captions for several images, {', '.join(stems)}; give each its own")
    return [TarSample(printable(stem), members[pictures[stem][0]], captions.get(stem, {})) for stem in stems]


def _members(stream: Any) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=stream, mode="r|*") as tar:
        for member in tar:
            file = posixpath.basename(member.name)
            if member.isreg() and not file.startswith(("._", "__")):  # macOS's and WebDataset's own
                content = tar.extractfile(member)
                assert content is not None
                yield member.name, content.read()
            elif (member.issym() or member.islnk()) and posixpath.splitext(file)[1].lower() in EXTENSIONS:
                raise OSError(f"{member.name} is a link; make the tar with --dereference --hard-dereference")
            tar.members = []  # type: ignore[attr-defined]  # or it remembers all


@contextmanager
def _opened(url: str) -> Iterator[Any]:
    """A shard's bytes. How a command ends is its error, but no Ctrl-C is hidden by what it does to the command."""
    stream = gopen(url) if "://" in url or url.startswith("pipe:") else Path(url).open("rb")  # noqa: SIM115
    try:
        yield stream
    except Exception:
        stream.close()
        raise
    except BaseException:
        with suppress(Exception):
            stream.close()
        raise
    stream.close()


class _Watched:
    """A byte stream that remembers what it is, and how it ended."""

    def __init__(self, stream: IO[bytes]):
        self.stream, self.plain, self.tail = stream, False, b""
        self.begun = False

    def read(self, size: int = -1) -> bytes:
        content = self.stream.read(size)
        if not self.begun:
            self.begun, self.plain = True, content[257:262] == b"ustar"  # not compressed
        if content:
            self.tail = content[-tarfile.BLOCKSIZE :]
        return content
