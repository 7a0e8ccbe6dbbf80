"""The DreamBooth benchmark: subjects with a few photographs each, and 25 prompts for things and for pets.

Photographs come as the benchmark publishes them, a folder a subject, or as a Parquet table with the columns
image, subject and class. Prompts and classes come from its `prompts_and_classes.txt`.
"""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vilex.data.example import decode_image
from vilex.errors import InputError
from vilex.eval.picture_store import picture_key
from vilex.extras import needs
from vilex.pictures.load import EXTENSIONS, load_image

with needs("eval"):
    import pyarrow
    import pyarrow.parquet

LIVE = ("cat", "dog")  # classes that get the prompts for live subjects
_PROMPT = re.compile(r"""['"](.*\{0\}.*\{1\}.*)['"]\.format""")


@dataclass(frozen=True)
class Photo:
    """A photograph that is read when it is asked for.

    Attributes:
        content: its file, or its bytes. name: stands in errors. key: of its pixels, see `picture_key`.
    """

    content: Path | bytes
    name: str
    key: str

    @classmethod
    def checked(cls, content: Path | bytes, name: str) -> "Photo":
        """Raises InputError, once and before any work, if it cannot be read."""
        return cls(content, name, picture_key(_read(content, name)))

    def load(self) -> Image.Image:
        """The photograph, upright, in sRGB."""
        return _read(self.content, self.name)


@dataclass(frozen=True)
class Subject:
    """A name, its class noun, and photographs of it."""

    name: str
    noun: str
    files: tuple[Photo, ...]

    @property
    def photos(self) -> list[Image.Image]:
        """All photographs, read anew: those of one subject at a time fit into memory."""
        return [file.load() for file in self.files]


@dataclass(frozen=True)
class Prompts:
    """Templates in which {0} is the identifier and {1} the class; classes by subject."""

    things: list[str]
    live: list[str]
    classes: dict[str, str]

    def captions(self, noun: str) -> list[str]:
        """A class's prompts without the identifier, as the text score wants them: "a dog in the snow"."""
        return self.fill(noun, "", noun)

    def fill(self, noun: str, identifier: str, word: str) -> list[str]:
        """A class's prompts with what stands for the identifier and for the class in them."""
        templates = self.live if noun in LIVE else self.things
        filled = [template.replace("{0}", identifier).replace("{1}", word) for template in templates]
        return [" ".join(text.split()) for text in filled]


def read_prompts(path: Path) -> Prompts:
    """Read `prompts_and_classes.txt`.

    Raises:
        InputError: it is missing or has another form.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); give the benchmark's prompts_and_classes.txt") from None
    head, _, rest = text.partition("Object Prompts")
    things, _, live = rest.partition("Live Subject Prompts")
    rows = [row for row in _table(head, path) if len(row) == 2 and row[0] != "subject_name"]
    found = Prompts(_PROMPT.findall(things), _PROMPT.findall(live), dict(rows))
    if not (found.things and found.live):
        raise InputError(f"{path}: no prompts found; give the benchmark's prompts_and_classes.txt")
    return found


def _table(text: str, path: Path) -> list[list[str]]:
    try:
        return list(csv.reader(text.splitlines()))
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read ({error}); give the benchmark's prompts_and_classes.txt") from None


def read_subjects(path: Path, classes: dict[str, str]) -> list[Subject]:
    """Read all subjects.

    Raises:
        InputError: there are none, one has no class, or a photograph is broken.
    """
    subjects = _from_table(path) if path.suffix == ".parquet" else _from_folders(path, classes)
    if not subjects:
        raise InputError(f"{path}: no subjects; give a folder with a folder for each, or a Parquet table")
    return subjects


def _from_folders(path: Path, classes: dict[str, str]) -> list[Subject]:
    subjects = []
    for folder in sorted(entry for entry in path.glob("*") if entry.is_dir()):
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in EXTENSIONS)
        if files and folder.name not in classes:
            raise InputError(f"{folder}: the prompts file has no class for '{folder.name}'; add a line to it")
        if files:
            photos = tuple(Photo.checked(file, str(file)) for file in files)
            subjects.append(Subject(folder.name, classes[folder.name], photos))
    return subjects


def _from_table(path: Path) -> list[Subject]:
    try:
        rows = pyarrow.parquet.read_table(path, columns=["image", "subject", "class"]).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: {error}; expected a Parquet table with image, subject and class") from None
    nouns: dict[str, str] = {}
    photos: dict[str, list[Photo]] = {}
    for i, row in enumerate(rows):
        where, name, noun = f"{path} row {i}", row["subject"], row["class"]
        if not (isinstance(name, str) and name.strip() and isinstance(noun, str) and noun.strip()):
            raise InputError(f"{where}: expected a subject and a class as texts, got {name!r} and {noun!r}")
        if nouns.setdefault(name, noun) != noun:
            raise InputError(f"{where}: '{name}' is a {noun} here and a {nouns[name]} before; give it one class")
        image = row["image"]
        content = image.get("bytes") if isinstance(image, dict) else image
        if not isinstance(content, bytes):
            raise InputError(f"{where}: no image bytes; write the photographs themselves into the table")
        photos.setdefault(name, []).append(Photo.checked(content, where))
    return [Subject(name, nouns[name], tuple(files)) for name, files in photos.items()]


def _read(content: Path | bytes, name: str) -> Image.Image:
    return load_image(content) if isinstance(content, Path) else decode_image(content, name)
