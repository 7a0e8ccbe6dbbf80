"""A page of answers, right and wrong, with their pictures: one HTML file that asks nothing of anybody else.

Which answers are shown is drawn by chance, half of them right, so that the page is no choice of the best or worst.
"""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from vilex.paths import write_text
from vilex.pictures.inputs import open_picture
from vilex.understand.answers import Answer
from vilex.understand.examples import Example
from vilex.understand.metrics.marks import Marks
from vilex.understand.rle import Mask

SIDE = 256  # pixels of a picture's longer side
FRAMES = 4  # of a video
LETTERS = 600  # of a text
TRUE, SAID, BOTH = (0, 90, 255), (255, 110, 0), (0, 170, 60)  # colours of masks, alone and where they overlap
STYLE = """
:root { color-scheme: light; --line: #c9ccd3; --ink: #1d2026; --soft: #5b606b; --good: #0a7a34; --bad: #b3123f; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; color: var(--ink); background: #f4f5f7;
  font: 1rem/1.4 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p, dl, dd { margin: 0; } dt, small { color: var(--soft); font-size: 0.85rem; }
table { border-collapse: collapse; } td { padding: 0.1rem 1.5rem 0.1rem 0; } td + td { text-align: right; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }
article { background: #fff; border: 1px solid var(--line); border-radius: 0.5rem; padding: 0.75rem; }
article.right { border-top: 4px solid var(--good); } article.wrong { border-top: 4px solid var(--bad); }
.pictures { display: flex; gap: 2px; justify-content: center; height: 14rem; margin-bottom: 0.5rem; }
img { min-width: 0; max-width: 100%; max-height: 100%; object-fit: contain; }
dd { white-space: pre-wrap; margin-bottom: 0.3rem; } .said { font-weight: 600; }
.said.mask { font: 0.75rem/1.3 monospace; }
.right .said { color: var(--good); } .wrong .said { color: var(--bad); }
"""


@dataclass(frozen=True)
class Shelf:
    """Answers that a page shows under one title: which rows, of how many."""

    name: str
    rows: tuple[int, ...]
    total: int


def write_page(
    path: Path,
    title: str,
    examples: Sequence[Example],
    answers: Sequence[Answer],
    marks: Marks,
    scores: Mapping[str, float],
    count: int,
    seed: int = 0,
) -> None:
    """Write a page.

    Args:
        examples, answers: in one order. marks: of the answers. scores: of the whole set.
        count: how many answers it shows. seed: of which they are.
    Raises:
        InputError: a picture cannot be read any more.
    """
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">",
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>",
        _table(scores),
    ]
    for shelf in shelves(marks, count, seed):
        drawn = f"{len(shelf.rows)} of {shelf.total}, drawn by chance" if len(shelf.rows) < shelf.total else shelf.total
        parts.append(f"<h2>{_named(shelf.name, marks)}: {drawn}</h2>")
        if marks.drawn and shelf.rows:
            parts.append("<p><small>blue: the true mask alone; orange: the answer's alone; green: both</small></p>")
        cards = [_card(examples[i], answers[i], marks, i, shelf.name) for i in shelf.rows]
        parts.append(f'<div class="cards">{"".join(cards)}</div>')
    write_text(path, "\n".join([*parts, "</body></html>\n"]))


def shelves(marks: Marks, count: int, seed: int = 0) -> tuple[Shelf, Shelf]:
    """Right and wrong answers, half of `count` each where there are enough, drawn without looking at them."""
    right = [i for i, value in enumerate(marks.values) if value >= marks.right]
    wrong = [i for i, value in enumerate(marks.values) if value < marks.right]
    of_right = min(len(right), max(count - count // 2, count - len(wrong)))
    rng = np.random.default_rng(seed)
    made = []
    for name, rows, some in (("right", right, of_right), ("wrong", wrong, count - of_right)):
        chosen = rng.permutation(len(rows))[:some]
        made.append(Shelf(name, tuple(rows[i] for i in sorted(chosen)), len(rows)))
    return made[0], made[1]


def _named(name: str, marks: Marks) -> str:
    if marks.name == "CIDEr":
        return f"The {'better' if name == 'right' else 'worse'} half by CIDEr"
    return f"{name.capitalize()} by {escape(marks.name)}"


def _table(scores: Mapping[str, float]) -> str:
    rows = [f"<tr><td>{escape(name)}</td><td>{value:.4g}</td></tr>" for name, value in scores.items()]
    return f"<table>{''.join(rows)}</table>"


def _card(example: Example, answer: Answer, marks: Marks, row: int, shelf: str) -> str:
    drawn = marks.drawn[row] if marks.drawn else None
    shown = [_thumbnail(open_picture(image), drawn) for image in example.images[:FRAMES]]
    name = escape(example.id)
    pictures = "".join(f'<img src="{one}" alt="picture of example {name}" loading="lazy">' for one in shown)
    truths = Counter(answer.truths).most_common()
    true = ", ".join(_text(text) + (f" <small>x {times}</small>" if times > 1 else "") for text, times in truths)
    more = len(example.images) - len(shown)
    return (
        f'<article class="{shelf}"><div class="pictures">{pictures}</div><dl>'
        f"<dt>asked</dt><dd>{_text(answer.prefix)}</dd>"
        f'<dt>answered</dt><dd class="said{" mask" if drawn else ""}">{_text(answer.answer) or "(nothing)"}</dd>'
        + (f"<dt>true</dt><dd>{true}</dd>" if true else "")
        + f"</dl><small>example {name} &middot; {escape(marks.name)} {marks.values[row]:.3g}"
        + (f" &middot; {more} more frames" if more else "")
        + "</small></article>"
    )


def _text(text: str) -> str:
    """A text as it is, whatever it holds; it turns no direction of what stands beside it."""
    short = text if len(text) <= LETTERS else f"{text[:LETTERS]}..."
    return f"<bdi>{escape(short)}</bdi>" if short else ""


def _thumbnail(picture: Image.Image, drawn: tuple[Mask | None, Mask] | None) -> str:
    """A small picture as an address of its own bytes."""
    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    if drawn:
        small = _coloured(small, *drawn)
    kept = io.BytesIO()
    small.save(kept, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(kept.getvalue()).decode()}"


def _coloured(picture: Image.Image, said: Mask | None, true: Mask) -> Image.Image:
    """A picture with the pixels of two masks half in their colours."""
    masks = [_scaled(mask, picture.size) for mask in (true, np.zeros_like(true) if said is None else said)]
    pixels = np.asarray(picture, dtype=np.float32).copy()
    for inside, colour in ((masks[0] & ~masks[1], TRUE), (masks[1] & ~masks[0], SAID), (masks[0] & masks[1], BOTH)):
        pixels[inside] = 0.5 * pixels[inside] + 0.5 * np.array(colour, dtype=np.float32)
    return Image.fromarray(pixels.round().astype(np.uint8))


def _scaled(mask: Mask, size: tuple[int, int]) -> Mask:
    resized = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
    return np.asarray(resized, dtype=bool)
