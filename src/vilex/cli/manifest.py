"""What a command leaves behind: pictures that carry their settings, and a manifest.

Nothing is overwritten unless asked for: a second command in a folder writes `manifest~2.json` and `000~2.png`.
Pictures are written as they are finished, and the manifest says at every moment what is there and what is missing.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

import vilex
from vilex.errors import InputError, printable
from vilex.hub.folder import file_hash
from vilex.paths import replacing, write_new
from vilex.pictures.png import to_png, utf8

MANIFEST = "manifest.json"
MANIFEST_SHARE = 0.05  # of a command's time at most goes into writing its manifest while pictures come


class Output:
    """A folder that fills with pictures, and the manifest that lists them.

    >>> with Output(Path("out"), "generate", {"seed": 0}, ["000.png"]) as output:
    ...     output.picture("000.png", picture)

    Args:
        folder: made if it does not exist.
        command: the vilex command's name.
        settings: everything that determines the pictures, as plain values.
        expected: names of the pictures to come; those that never came are the manifest's `missing`.
        overwrite: whether files of the same names are replaced.
        refused: a line for each input that was refused.
    """

    def __init__(
        self,
        folder: Path,
        command: str,
        settings: Mapping[str, Any],
        expected: Sequence[str] = (),
        overwrite: bool = False,
        refused: Sequence[str] = (),
    ):
        self.folder, self.command, self.settings, self.overwrite = folder, command, dict(settings), overwrite
        self.missing, self.refused, self.files = list(expected), list(refused), list[dict[str, Any]]()
        self.started, self.writing = time.perf_counter(), 0.0
        self.path: Path | None = None  # of the manifest, once there is one

    def __enter__(self) -> "Output":
        return self

    def picture(self, name: str, image: Image.Image, scale: int = 1, **settings: Any) -> Path:
        """Save a PNG, `scale` times larger (Lanczos), with its settings as text metadata; returns its path.

        Raises:
            InputError: it cannot be written.
        """
        content = to_png(image, self._about() | settings, scale)
        mark = (self.path or self._update()).stem.removeprefix(
            Path(MANIFEST).stem
        )  # this command's number in the folder
        path = self._write(self.folder / f"{Path(name).stem}{mark}.png", content)
        self.files.append({"file": path.name, **settings})
        if name in self.missing:
            self.missing.remove(name)
        if self.writing < MANIFEST_SHARE * (time.perf_counter() - self.started):
            self._update()
        return path

    def manifest(self) -> dict[str, Any]:
        """What the manifest says now."""
        return {
            "vilex": vilex.__version__,
            **self._about(),
            "files": self.files,
            "missing": self.missing,
            "refused": self.refused,
            "seconds": round(time.perf_counter() - self.started, 3),
        }

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the manifest; Ctrl-C ends the command with a line on what is there.

        A command that failed before its first picture leaves nothing.
        """
        if kind is not None and kind is not KeyboardInterrupt and not self.files:
            return
        try:
            self._update()
        except InputError:
            if kind is None:
                raise
        if kind is KeyboardInterrupt:
            kept, all_of_them = len(self.files), len(self.files) + len(self.missing)
            line = f"stopped: {kept} of {all_of_them} pictures are in {self.folder}; its manifest names the missing"
            print(printable(line), file=sys.stderr)

    def _about(self) -> dict[str, Any]:
        return {"command": self.command, **self.settings}

    def _json(self) -> bytes:
        return utf8(json.dumps(self.manifest(), indent=2, ensure_ascii=False) + "\n")

    def _update(self) -> Path:
        """Write the manifest, the first time under a free name; returns where it is."""
        began = time.perf_counter()
        if self.path is None:
            self.path = self._write(self.folder / MANIFEST, self._json())
        else:
            with _one_line(self.path), replacing(self.path) as aside:
                aside.write_bytes(self._json())
        self.writing += time.perf_counter() - began
        return self.path

    def _write(self, path: Path, content: bytes) -> Path:
        with _one_line(path):
            if not self.overwrite:
                return write_new(path, content)
            with replacing(path) as aside:
                aside.write_bytes(content)
            return path


def check_folder(folder: Path) -> None:
    """Raise InputError if a folder cannot be made or written to; found before the work, and nothing is made."""
    with _one_line(folder):
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        which = "" if there == folder else f"{there} "
        raise InputError(f"{folder}: {which}is a file; give another folder with -o")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: no permission to write in {there}; give another folder with -o")


def check_free(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    """Raise InputError if a folder holds one of `names`, which may not be replaced; found before the work."""
    for name in names:
        if (folder / name).exists() and not overwrite:
            raise InputError(f"{folder / name}: exists; give another folder with -o, or --overwrite")


def check_file(path: Path, overwrite: bool = False) -> None:
    """Raise InputError if a file cannot be written, or is there and may not be replaced; found before the work."""
    check_folder(path.parent)
    with _one_line(path), suppress(FileNotFoundError):
        path.lstat()  # refuses names that no file can have
    if os.path.isdir(path):
        raise InputError(f"{path}: a folder; give a file's name with -o")
    if os.path.exists(path) and not overwrite:
        raise InputError(f"{path}: exists; give another name with -o, or --overwrite")


def hashes_of(files: Mapping[str, Path | None]) -> dict[str, str]:
    """SHA-256 of those files that are there, by name."""
    return {name: file_hash(path) for name, path in files.items() if path is not None and os.path.isfile(path)}


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be written ({reason}); give another folder with -o") from None
