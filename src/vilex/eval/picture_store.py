"""Pictures of an evaluation on disk: whole, numbered, never drawn twice, and never mixed with other settings."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from vilex.errors import InputError
from vilex.lexicon import VisualLexicon

SOURCES = "source"


class Drawing(Protocol):
    """Settings of a protocol that draws."""

    cfg: float
    steps: int
    scheduler: str


def identity_of(lexicon: VisualLexicon, settings: Drawing) -> dict[str, Any]:
    """What pictures depend on in every protocol: the models, and how they sample."""
    return {
        "encoder_sha256": lexicon.encoder_sha256,
        "base_sha256": lexicon.encoder.config.base_sha256,
        "cfg": settings.cfg,
        "steps": settings.steps,
        "scheduler": settings.scheduler,
        "dtype": str(lexicon.t2i.dtype).removeprefix("torch."),
    }


class PictureStore:
    """`out`/pictures/ROW/SEED/NUMBER.png, and `out`/settings.json that says how they were made.

    PNG, for JPEG alone moves a Fréchet distance.

    Args:
        settings: plain values; what lies in `out` must have been made with the same.
    Raises:
        InputError: it was not.
    """

    def __init__(self, out: Path, settings: dict[str, Any]):
        self.folder, path = out / "pictures", out / "settings.json"
        settings = json.loads(json.dumps(settings))
        if path.is_file():
            before = json.loads(path.read_text())
            for key in settings.keys() | before.keys():
                if before.get(key) != settings.get(key):
                    raise InputError(
                        f"{out}: holds pictures of {key} {before.get(key)!r}, not {settings.get(key)!r}; "
                        "give another folder with -o"
                    )
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings, indent=2) + "\n")

    @classmethod
    def open(cls, out: Path) -> "PictureStore":
        """What lies in `out` already.

        Raises:
            InputError: nothing does.
        """
        path = out / "settings.json"
        if not path.is_file():
            raise InputError(f"{out}: no evaluation's pictures; evaluate first")
        return cls(out, json.loads(path.read_text()))

    def path(self, row: str, seed: int, number: int) -> Path:
        return self.folder / row.replace(" ", "-") / str(seed) / f"{number:06d}.png"

    def has(self, row: str, seed: int, numbers: Sequence[int]) -> bool:
        return all(self.path(row, seed, number).is_file() for number in numbers)

    def save(self, row: str, seed: int, numbers: Sequence[int], pictures: Sequence[Image.Image]) -> None:
        for number, picture in zip(numbers, pictures, strict=True):
            path = self.path(row, seed, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_suffix(f".{os.getpid()}.tmp")
            picture.save(aside, "PNG")
            os.replace(aside, path)

    def load(self, row: str, seed: int, count: int) -> list[Image.Image]:
        """The first `count` pictures of a row.

        Raises:
            InputError: one is damaged.
        """
        return [_open(self.path(row, seed, number)) for number in range(count)]


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: damaged picture ({error}); remove it and evaluate again") from None
