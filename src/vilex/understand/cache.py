"""Features of a set, kept on disk: computed once, whatever is trained on them.

    CACHE/<first 16 letters of the features' key>/about.json, features-<hash>.safetensors, ...

A picture is known by its bytes, so a set may move, and two sets may share pictures and names. A file is written whole
or not at all and named by what it holds, so that several processes fill one cache, and a run that was stopped goes on.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import safetensors
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from vilex.errors import InputError
from vilex.paths import replacing, write_text
from vilex.pictures.inputs import PictureLike, open_picture
from vilex.understand.features import ImageFeatures

ROWS = 256  # pictures a file
ABOUT = "about.json"
FORMAT = "vilex-features"


def picture_hash(picture: str | Path | Image.Image) -> str:
    """What a picture is known by: the SHA-256 of its file's bytes, or of its pixels.

    Raises:
        InputError: the file cannot be read.
    """
    if isinstance(picture, Image.Image):
        head = f"{picture.mode} {picture.size} ".encode()
        return hashlib.sha256(head + picture.tobytes()).hexdigest()
    try:
        with open(picture, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{picture}: cannot be read ({error.strerror}); give the path of an image") from None


class FeatureCache:
    """Features by picture; read by row, from files that stay on disk.

    Args:
        folder: of all caches. features: which ones; their key names the folder inside.
        dtype: precision of what is kept.
    Raises:
        InputError: a file of it is damaged.
    """

    def __init__(self, folder: Path, features: ImageFeatures, dtype: torch.dtype = torch.bfloat16):
        self.parts, self.dtype = features.parts, dtype
        self.about = {**features.about(), "kept_as": str(dtype).removeprefix("torch.")}
        key = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()
        self.folder = folder / key[:16]
        self.reload()

    def reload(self) -> None:
        """See what other processes have written since."""
        self.places: dict[str, tuple[Path, int]] = {}
        self.open: dict[Path, Any] = {}
        for path in sorted(self.folder.glob("features-*.safetensors")):
            for row, key in enumerate(_keys(path)):
                self.places.setdefault(key, (path, row))

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, key: str) -> bool:
        return key in self.places

    def __getitem__(self, key: str) -> list[Tensor]:
        """A picture's features by its hash: [N_i, w_i] for each part."""
        path, row = self.places[key]
        if path not in self.open:
            self.open[path] = safetensors.safe_open(path, "pt")
        return [self.open[path].get_slice(part.name)[row] for part in self.parts]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "open": {}}  # data workers open their own

    def fill(
        self,
        pictures: Iterable[PictureLike],
        features: ImageFeatures,
        batch_size: int = 32,
        done: Callable[[int], None] = lambda count: None,
    ) -> list[str]:
        """Compute what is not there yet.

        Args:
            pictures: paths or PIL images; each only once, however often it comes.
            done: is told how many pictures have been dealt with, now and then.
        Returns:
            A line for each picture that cannot be read.
        Raises:
            InputError: the disk refuses. What was written by then stays.
        """
        refused: list[str] = []
        try:
            write_text(self.folder / ABOUT, json.dumps(self.about, indent=2) + "\n")
            missing = self._missing(pictures, features, refused, done)
            while made := self._computed(islice(missing, ROWS), features, batch_size):
                self._write(made)
        except (OSError, safetensors.SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"{self.folder}: cannot be written ({reason}); what is done stays, the same command goes on"
            ) from None
        return refused

    def _missing(
        self, pictures: Iterable[PictureLike], features: ImageFeatures, refused: list[str], done: Callable[[int], None]
    ) -> Iterator[tuple[str, Tensor]]:
        seen: set[str] = set()
        for count, picture in enumerate(pictures, 1):
            done(count)
            try:
                key = picture_hash(picture)  # type: ignore[arg-type]  # of the forms that examples have
                if key in seen or key in self.places:
                    continue
                seen.add(key)
                pixels = features.views(open_picture(picture))
            except InputError as error:
                refused.append(str(error))
            else:
                yield key, pixels

    def _computed(
        self, pictures: Iterator[tuple[str, Tensor]], features: ImageFeatures, batch_size: int
    ) -> dict[str, list[Tensor]]:
        """By picture: [N_i, w_i] for each part. Pixels are held for one batch at a time."""
        made: dict[str, list[Tensor]] = {}
        while some := list(islice(pictures, batch_size)):
            parts = [value.to("cpu", self.dtype) for value in features(torch.stack([pixels for _, pixels in some]))]
            made.update((key, [value[row] for value in parts]) for row, (key, _) in enumerate(some))
        return made

    def _write(self, made: dict[str, list[Tensor]]) -> None:
        keys = list(made)
        path = self.folder / f"features-{hashlib.sha256(''.join(keys).encode()).hexdigest()[:16]}.safetensors"
        named: dict[str, Tensor] = {
            part.name: torch.stack(rows)
            for part, rows in zip(self.parts, zip(*made.values(), strict=True), strict=True)
        }
        with replacing(path) as aside:
            save_file(named, aside, metadata={FORMAT: json.dumps(keys)})
        self.places.update((key, (path, row)) for row, key in enumerate(keys))


def _keys(path: Path) -> list[str]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            return list(json.loads((file.metadata() or {})[FORMAT]))
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path}: damaged features ({error}); remove it, and the same command makes it anew") from None
