"""Pictures of an evaluation on disk: whole, known by what they were drawn from, and never drawn twice."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from vilex.checks import text
from vilex.errors import InputError
from vilex.hub.folder import read_json
from vilex.lexicon import VisualLexicon
from vilex.paths import file_name, replacing, write_text
from vilex.sample import make_scheduler

SOURCES = "source"
SETTINGS, ORDER = "settings.json", "order.json"
ELSEWHERE = "give another folder with -o"
KEY_LENGTH = 16  # hexadecimal digits of a hash: among 100,000 pictures two alike by chance once in 4 billion


class SamplingSettings(Protocol):
    """Settings of a protocol that draws."""

    @property
    def cfg(self) -> float:
        """Classifier-free guidance; 1 is none."""

    @property
    def steps(self) -> int:
        """Denoising steps."""

    @property
    def scheduler(self) -> str:
        """See `vilex.sample.SCHEDULERS`, with options."""


def identity_of(lexicon: VisualLexicon, settings: SamplingSettings) -> dict[str, Any]:
    """What pictures depend on in every protocol: the models, and how they sample.

    Raises:
        InputError: there is no such sampler, or not with such options.
    """
    make_scheduler(text(settings.scheduler, "scheduler"), lexicon.t2i.scheduler_config)
    return {
        "encoder_sha256": encoder_hash(lexicon),
        "base_sha256": lexicon.encoder.config.base_sha256,
        "cfg": settings.cfg,
        "steps": settings.steps,
        "scheduler": settings.scheduler,
        "dtype": str(lexicon.t2i.dtype).removeprefix("torch."),
        **lexicon.t2i.changed,
    }


def encoder_hash(lexicon: VisualLexicon) -> str:
    """SHA-256 of the encoder's weights: of their file, or of themselves where they came from none."""
    if lexicon.encoder_sha256:
        return lexicon.encoder_sha256
    digest = hashlib.sha256()
    for name, value in sorted(lexicon.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def picture_key(image: Image.Image) -> str:
    """A picture by its content: of its size and pixels, whatever file they lay in."""
    image = image.convert("RGB")
    return text_key(f"{image.size}", image.tobytes())


def text_key(*parts: str | bytes) -> str:
    """Texts and bytes by their content, each for itself."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()[:KEY_LENGTH]


def noise_seed(key: str, seed: int) -> int:
    """The seed of a picture's noise: by its key, so that neither place nor number of pictures matters."""
    return int(np.random.SeedSequence((seed, int(key, 16))).generate_state(1)[0])


class PictureStore:
    """`out`/pictures/ROW/SEED/KEY.png, and `out`/settings.json that says how they were made.

    A key says what a picture was drawn from. PNG, for JPEG alone moves a Fréchet distance. Several processes may
    work in one folder: every file appears whole.

    Args:
        settings: plain values; what lies in `out` must have been made with the same.
    Raises:
        InputError: it was not.
    """

    def __init__(self, out: Path, settings: dict[str, Any]):
        self.out, self.folder = out, out / "pictures"
        settings = json.loads(json.dumps(settings))
        path = out / SETTINGS
        if path.is_file():
            before = read_json(path, ELSEWHERE)
            for key in sorted(settings.keys() | before.keys()):
                if before.get(key) != settings.get(key):
                    raise InputError(
                        f"{out}: holds pictures of {key} {before.get(key)!r}, not {settings.get(key)!r}; {ELSEWHERE}"
                    )
        else:
            write_text(path, json.dumps(settings, indent=2) + "\n")

    @classmethod
    def open(cls, out: Path) -> "PictureStore":
        """What lies in `out` already.

        Raises:
            InputError: nothing does.
        """
        path = out / SETTINGS
        if not path.is_file():
            raise InputError(f"{out}: no evaluation's pictures; evaluate first")
        return cls(out, read_json(path, ELSEWHERE))

    def path(self, row: str | tuple[str, ...], seed: int, key: str) -> Path:
        """Where a picture lies. row: its title, or several, one below the other."""
        titles = (row,) if isinstance(row, str) else row
        return self.folder.joinpath(*map(folder_name, titles), str(seed), f"{file_name(key)}.png")

    def has(self, row: str | tuple[str, ...], seed: int, keys: Sequence[str]) -> bool:
        """Whether all those pictures of a row are there."""
        return all(self.path(row, seed, key).is_file() for key in keys)

    def save(self, row: str | tuple[str, ...], seed: int, keys: Sequence[str], pictures: Sequence[Image.Image]) -> None:
        """Write pictures of a row, each whole or not at all."""
        for key, picture in zip(keys, pictures, strict=True):
            with replacing(self.path(row, seed, key)) as aside:
                picture.save(aside, "PNG")

    def read(self, row: str | tuple[str, ...], seed: int, keys: Sequence[str]) -> list[Image.Image]:
        """Pictures of a row.

        Raises:
            InputError: one is damaged.
        """
        return [_open(self.path(row, seed, key)) for key in keys]

    def keep_order(self, keys: Mapping[str, Sequence[str]]) -> None:
        """Write down the keys of an evaluation, by row, in the data's order."""
        write_text(self.out / ORDER, json.dumps(keys) + "\n")

    def load(self, row: str, seed: int, count: int) -> list[Image.Image]:
        """A row's first `count` pictures in the order of the data that was evaluated last.

        Raises:
            InputError: nothing was, or a picture is damaged.
        """
        order = read_json(self.out / ORDER, ELSEWHERE)
        if row not in order:
            raise InputError(f"{self.out}: has no pictures of '{row}'; evaluate first")
        return self.read(row, seed, order[row][:count])


def folder_name(title: str) -> str:
    """A row's title as the name of its folder."""
    return file_name(title.replace(" ", "-"))


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: damaged picture ({error}); remove it and evaluate again") from None
