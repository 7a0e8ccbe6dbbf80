"""Visitors' files: each known by the name it was given here, read by its owner alone, and deleted after a while."""

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from torch import Tensor

from vilex.app.limits import Limits
from vilex.errors import InputError
from vilex.paths import file_name
from vilex.tokens import save_tokens


@dataclass(frozen=True)
class Stored:
    """A file: who may read it (empty: whoever knows its name, which nobody can guess), its bytes, since when."""

    owner: str
    size: int
    since: float


class Files:
    """A folder of this process's own. What was not put there by `put` cannot be read through it, whatever its name.

    Args:
        limits: how long files are kept, and how many bytes.
        clock: seconds, for `sweep`.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic):
        self.limits, self._clock = limits, clock
        self.root = Path(tempfile.mkdtemp(prefix="vilex-app-")).resolve()
        self._stored: dict[str, Stored] = {}
        self._lock, self._closed = Lock(), Event()

    def put(self, name: str, content: bytes, owner: str) -> Path:
        """Keep a visitor's file, in a folder of its own with a name that cannot be guessed.

        Raises:
            InputError: there is no room for it now.
        """
        folder = self.root / secrets.token_urlsafe(24)
        path = folder / file_name(name)
        with self._lock:
            if len(content) + sum(one.size for one in self._stored.values()) > self.limits.stored:
                raise InputError("the server keeps as many files as it may; try again later")
            self._stored[str(path)] = Stored(owner, len(content), self._clock())
        folder.mkdir(mode=0o700)
        path.write_bytes(content)
        return path

    def put_tokens(self, tokens: dict[str, Tensor], provenance: dict[str, dict[str, Any]], owner: str) -> Path:
        """Keep tokens [n, d] by name as a token file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tokens.safetensors"
            save_tokens(path, tokens, provenance)
            return self.put(path.name, path.read_bytes(), owner)

    def readable(self, path: object, visitor: str) -> bool:
        """Whether a name is that of a file that this visitor may read."""
        stored = self._stored.get(path) if isinstance(path, str) else None
        return stored is not None and stored.owner in ("", visitor)

    def sweep(self) -> int:
        """Delete what is older than `limits.keep`; returns how many files."""
        before = self._clock() - self.limits.keep
        with self._lock:
            old = [path for path, stored in self._stored.items() if stored.since <= before]
            for path in old:
                del self._stored[path]
        for path in old:
            shutil.rmtree(Path(path).parent, ignore_errors=True)
        return len(old)

    def keep_sweeping(self) -> None:
        """Sweep now and then, in a thread of its own, until `close`."""
        pause = min(30.0, self.limits.keep / 4)

        def work() -> None:
            while not self._closed.wait(pause):
                self.sweep()

        Thread(target=work, name="vilex-app-sweep", daemon=True).start()

    def close(self) -> None:
        """Delete everything."""
        self._closed.set()
        shutil.rmtree(self.root, ignore_errors=True)
