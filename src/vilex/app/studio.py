"""What all tabs draw with: the model, the device, visitors' files, and how a job's pictures are shown and kept."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vilex.app.desk import Desk, Progress, Stopped
from vilex.app.files import Files
from vilex.app.guard import visitor_of
from vilex.app.limits import SIDE, WIDER, Limits
from vilex.app.uploads import read_picture
from vilex.errors import InputError, printable
from vilex.extras import needs
from vilex.lexicon import VisualLexicon
from vilex.pictures.png import to_png

with needs("app"):
    import gradio as gr

SOURCE = "source"  # what stands below a picture that was not drawn
LARGEST_SHOWN = 512  # pixels a side of a source
Shown = list[tuple[str, str]]  # a gallery: paths of pictures, and what stands below them
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Upload:
    """A file that a visitor uploaded: where it is here, and what they call it."""

    path: Path
    name: str

    @property
    def content(self) -> bytes:
        """Its bytes, as long as it is kept."""
        try:
            return self.path.read_bytes()
        except OSError:
            raise InputError(f"{self.name}: is not kept any longer; upload it again") from None

    @property
    def sha256(self) -> str:
        """Of the file's bytes."""
        return hashlib.sha256(self.content).hexdigest()

    def picture(self) -> Image.Image:
        """It as RGB. Raises InputError if it is no picture."""
        return read_picture(self.content, self.name, LARGEST_SHOWN)


@dataclass(frozen=True)
class Drawn:
    """A finished picture, what stands below it, its file's name, and the settings it carries."""

    picture: Image.Image
    caption: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """Pictures that are drawn at once, and what is said meanwhile."""

    title: str
    draw: Callable[[OnStep], Sequence[Drawn]]


class Studio:
    """A model and those who draw with it.

    Args:
        about: what it is, as every picture says it.
        limits: what the server takes.
    """

    def __init__(self, lexicon: VisualLexicon, about: Mapping[str, Any], limits: Limits):
        self.lexicon, self.about, self.limits = lexicon, dict(about), limits
        self.files, self.desk = Files(limits), Desk()
        own = lexicon.t2i.image_size
        self.most_scale = max(1, min(16, SIDE // own))
        self.scale = max(1, min(self.most_scale, 256 // own))  # by default

    @property
    def sides(self) -> tuple[int, int]:
        """The least and the most pixels a side that visitors may have drawn; alike where the model draws one size."""
        t2i = self.lexicon.t2i
        own, step = t2i.image_size, t2i.size_step
        if not t2i.resizable:
            return own, own
        return max(1, own // WIDER // step) * step, min(WIDER * own // step, t2i.most_places or WIDER * own) * step

    def keep(self, drawn: Drawn, scale: int, owner: str) -> tuple[str, str]:
        """Write a picture with its settings for its owner, as a gallery takes it."""
        content = to_png(drawn.picture, {**drawn.settings, **self.about}, scale)
        return str(self.files.put(drawn.name, content, owner)), drawn.caption

    def draw(
        self, parts: Sequence[Part], scale: int, request: "gr.Request", progress: Progress
    ) -> Iterator[tuple[Shown, str]]:
        """Draw one part after the other: what is there by then, and a line on how far it is."""
        shown, owner = Shown(), owner_of(request)
        with self.desk.job(request.session_hash or "", progress, len(parts)) as job:
            for part in parts:
                try:
                    with job.part(part.title) as on_step:
                        drawn = part.draw(on_step)
                except Stopped as stopped:
                    yield shown, f"{stopped}. {_pictures(shown)} before that."
                    return
                shown += [self.keep(one, scale, owner) for one in drawn]
                more = "" if job.finished == job.total else " so far"
                yield shown, f"{_pictures(shown)}{more}."

    def stop(self, request: "gr.Request") -> str:
        """Stop the page's job; what the page says then."""
        running = self.desk.stop(request.session_hash or "")
        return "Stopped. What was finished is kept." if running else "Nothing is being drawn."


def owner_of(request: "gr.Request") -> str:
    """The browser that asks; empty for a program."""
    return visitor_of(request.headers)


@contextmanager
def in_one_line(request: "gr.Request") -> Iterator[None]:
    """What a visitor can mend becomes a line in their page, or in their program's exception."""
    try:
        yield
    except InputError as error:
        raise _error(str(error), request) from None
    except torch.OutOfMemoryError:
        raise _error("the device's memory is full; draw fewer pictures at once", request) from None


def inert(text: str, request: "gr.Request") -> str:
    """A text that a page shows as it is, where it would read markup; browsers name their page when they ask."""
    return escape(text) if "origin" in request.headers else text


def short(name: str) -> str:
    """A file's name as it stands in errors and settings."""
    return printable(name)[-100:]


def _error(line: str, request: "gr.Request") -> Exception:
    return gr.Error(inert(line, request), duration=None, print_exception=False, title="Not drawn")


def _pictures(shown: Shown) -> str:
    number = sum(caption != SOURCE for _, caption in shown)
    return f"{number} picture{'' if number == 1 else 's'}" if number else "No picture"
