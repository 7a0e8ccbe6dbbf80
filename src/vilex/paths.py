"""Names that come from data made safe as names of files, and files that are whole or not there."""

import errno
import hashlib
import itertools
import os
import re
import shutil
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LONGEST = 100  # bytes of UTF-8; file systems take 255
_UNSAFE = re.compile(r"[^\w ,.+()=@-]|^[.\s-]+|[.\s]+$")
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # Windows gives these names to no file


def file_name(text: str) -> str:
    """A text of any origin as the name of one file or folder: never a path, never empty, never hidden.

    A plain name stays as it is. Any other keeps what can be kept and ends in a hash of the whole, so that two
    different texts do not share a name.
    """
    kept = _UNSAFE.sub("_", unicodedata.normalize("NFC", text)).encode()[:LONGEST].decode(errors="ignore")
    if text and kept == text and not _DEVICE.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{kept}-{digest}" if kept else digest


def unique_names(given: Sequence[str]) -> list[str]:
    """A name for each: the one it has, numbered (a, a~2, a~3, ...) where several have the same or would get it."""
    taken: set[str] = set()
    following: dict[str, int] = {}
    own = set(given)
    names = []
    for first in given:
        name = first
        while name in taken:
            following[first] = following.get(first, 1) + 1
            name = f"{first}~{following[first]}"
            if name in own:  # another's own name
                name = first
        taken.add(name)
        names.append(name)
    return names


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, which takes its place when all went well: others see the old or the new, whole.

    Its folder is made. Several processes and threads may write the same file at once; the last one stays.
    """
    with _beside(path) as aside:
        yield aside
        os.replace(aside, path)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A folder to make and fill beside `folder`, which takes its place when all went well: it is there whole or not at
    all, and what was there stays until then.

    One process at a time; what a killed one left is dropped.
    """
    aside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield aside
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_new(path: Path, content: bytes) -> Path:
    """Write a file whole, under its name if that is free, else under the next of `a.png`, `a~2.png`, `a~3.png`, ...

    Several processes may ask for one name at once: each gets its own, and nothing that was there is touched.

    Returns:
        The name it has.
    """
    with _beside(path) as aside:
        aside.write_bytes(content)
        return next(name for name in _numbered(path) if _take(aside, name))


def _take(aside: Path, path: Path) -> bool:
    """Give a finished file a name, unless it is taken."""
    try:
        os.link(aside, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        try:  # no links on this file system: reserve the name, then fill it
            path.open("xb").close()
        except FileExistsError:
            return False
        os.replace(aside, path)
    return True


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}~{number}{path.suffix}")


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem[:LONGEST]}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def write_keeping(path: Path, text: str) -> None:
    """Write UTF-8 as `write_text`; another text that was there is kept, under the next free name."""
    if path.is_file() and (before := path.read_bytes()) != text.encode():
        write_new(path, before)
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, whole or not at all; see `replacing`."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")
