"""All text of a rater's page, from one TOML file, so that it is in any language.

A file needs only what differs from the English here. The three questions are those of the paper's human study
(arXiv 2412.06774, Table 2): which picture is more similar to the source in semantics, in style, in layout.
"""

import dataclasses
import string
from dataclasses import dataclass, field
from pathlib import Path

from vilex.errors import InputError
from vilex.train.toml import load_toml

CRITERIA = ("semantic", "style", "layout")


@dataclass(frozen=True)
class Questions:
    """A question for each criterion, what stands between stars in colour, and what it means."""

    semantic: str = "Which image is more similar to the source image in *semantics*?"
    semantic_hint: str = "What is shown: the same objects, of the same kind."
    style: str = "Which image is more similar to the source image in *style*?"
    style_hint: str = "How it is made: colours, texture, photograph or drawing."
    layout: str = "Which image is more similar to the source image in *layout*?"
    layout_hint: str = "Where things are: their places, sizes and directions."


@dataclass(frozen=True)
class Wording:
    """What raters read. Paragraphs are parted by an empty line."""

    language: str = "en"  # of the page, as browsers and screen readers know it
    direction: str = "ltr"  # rtl for languages that are written from right to left
    title: str = "Which image is closer?"
    introduction: str = (
        "You will see a source image, and below it two images that two methods made from it. For each pair you are "
        "asked which of the two is more similar to the source, in one respect at a time.\n\n"
        "There is no right answer: say what you see. If you are unsure, choose the one that seems a little closer."
    )
    consent: str = (
        "Taking part is voluntary, and you can stop at any time. We store which image you chose and how long it took, "
        "under a random code. We store neither your name nor your address nor anything else about you. Your "
        "answers are used for research and may be published in this form. You can download or delete them at any "
        "time with the link of your own page."
    )
    agree: str = "I have read this and agree to take part."
    start: str = "Start"
    source: str = "Source"
    method_a: str = "Method A"
    method_b: str = "Method B"
    tie: str = "No difference"
    keys: str = "Keys: ← for A, → for B"
    keys_tie: str = "Keys: ← for A, → for B, ↓ for no difference"
    practice: str = "Practice: these answers do not count"
    progress: str = "{done} of {all}"
    keep_link: str = "To go on later, or on another device, keep this page's link."
    done: str = "Thank you! All your answers are saved."
    download: str = "Download my answers"
    withdraw: str = "Delete my answers"
    withdraw_sure: str = "Delete all your answers? This cannot be undone."
    withdraw_yes: str = "Yes, delete them"
    withdraw_no: str = "No, go back"
    withdrawn: str = "Your answers are deleted."
    full: str = "Thank you for coming. This study has all the answers it needs."
    failed: str = "Your answer could not be saved. Please go back and try again."
    not_found: str = "There is no such page. Please check the link."
    question: Questions = field(default_factory=Questions)


def load_wording(path: Path | None) -> Wording:
    """The English text, with what a TOML file says instead.

    Raises:
        InputError: the file cannot be read, has keys that are not known, or lacks the place of a number.
    """
    wording = Wording() if path is None else load_toml(Wording, path)
    where = path or "text"
    if wording.direction not in ("ltr", "rtl"):
        raise InputError(f"{where}: direction: expected 'ltr' or 'rtl', got {wording.direction!r}")
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(wording.progress) if name is not None}
    except ValueError as error:
        raise InputError(f"{where}: progress: {error}; write '{{done}} of {{all}}'") from None
    if fields != {"done", "all"}:
        raise InputError(f"{where}: progress: expected {{done}} and {{all}}, got {wording.progress!r}")
    return wording


def to_toml(wording: Wording) -> str:
    """A wording as the TOML file it is read from."""
    fields = [one for one in dataclasses.fields(wording) if one.name != "question"]
    lines = [f"{one.name} = {_quoted(getattr(wording, one.name))}" for one in fields]
    questions = dataclasses.asdict(wording.question)
    return "\n".join([*lines, "", "[question]", *(f"{key} = {_quoted(text)}" for key, text in questions.items()), ""])


def _quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return (
        '"'
        + "".join(f"\\u{ord(letter):04x}" if ord(letter) < 32 or ord(letter) == 127 else letter for letter in escaped)
        + '"'
    )
