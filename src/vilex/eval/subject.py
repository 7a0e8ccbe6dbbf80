"""The subject protocol (DreamBooth, arXiv 2208.12242): the subject of one photograph in 25 new prompts.

    subject fidelity   cosine of features of a drawn picture and of each photograph of the subject, their mean
    prompt fidelity    cosine of a drawn picture's image embedding and the prompt's text embedding (CLIP-T);
                       the prompt names the class and leaves the identifier out

The subject's first photograph is encoded, all of them are compared with. The prompt is [v, c]: its tokens, then
"a dog in the snow", as in joint training. Rows are numbers of tokens at weights of text-free guidance, beside
the two ends: the words alone, and the tokens alone.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from vilex.errors import InputError
from vilex.eval.dreambooth import Subject, read_prompts, read_subjects
from vilex.eval.features import features_of, load_extractor
from vilex.eval.measures import interval
from vilex.eval.store import PictureStore, identity_of
from vilex.eval.tables import to_markdown, write_trade
from vilex.grid import grid
from vilex.guidance import Guidance
from vilex.lexicon import VisualLexicon

WORDS = "words alone"
GRID_PROMPTS = 6


@dataclass(frozen=True)
class SubjectSettings:
    """What to evaluate, and how.

    Attributes:
        photos, prompts: see `vilex.eval.dreambooth`. subjects, captions: only the first so many.
        counts: numbers of tokens; tfg: weights of text-free guidance; a row for each pair.
        per_prompt: pictures a prompt.
        features: extractors of subject fidelity. text: the CLIP model of prompt fidelity, none if empty.
    """

    photos: Path
    prompts: Path
    out: Path
    subjects: int | None = None
    captions: int | None = None
    counts: tuple[int, ...] = (16,)
    tfg: tuple[float, ...] = (3.0, 5.0, 7.5)
    per_prompt: int = 4
    features: tuple[str, ...] = ("facebook/dino-vits16", "openai/clip-vit-base-patch32")
    text: str = "openai/clip-vit-base-patch32"
    cfg: float = 3.0
    steps: int = 20
    scheduler: str = "dpm++"
    batch_size: int = 16


@dataclass(frozen=True)
class Row:
    """One way to draw: the prompt for a caption ({} is its place), and the guidance."""

    title: str
    prompt: str
    guidance: Guidance


def evaluate_subjects(
    lexicon: VisualLexicon, settings: SubjectSettings, on_picture: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Draw what is missing, measure, and write results.json, results.md, a grid a subject and trade.svg.

    Args:
        on_picture: called with (drawn, expected) pictures.
    Raises:
        InputError: files or models are not there, or settings do not fit.
    """
    prompts = read_prompts(settings.prompts)
    subjects = read_subjects(settings.photos, prompts.classes)[: settings.subjects]
    judges = {name: load_extractor(name, lexicon.t2i.device) for name in settings.features}
    reader = load_extractor(settings.text, lexicon.t2i.device) if settings.text else None
    if reader and not hasattr(reader, "read"):
        raise InputError(f"text model {settings.text}: reads no text; give a CLIP or SigLIP model")
    rows = rows_of(settings)
    identity = {
        "photos": str(settings.photos),
        "per_prompt": settings.per_prompt,
        **identity_of(lexicon, settings),
    }
    store = PictureStore(settings.out, identity)
    scores: dict[str, dict[str, list[float]]] = {row.title: {} for row in rows}
    total, done = len(subjects) * len(rows), 0
    for subject in subjects:
        captions = prompts.captions(subject.noun)[: settings.captions]
        seen = {name: _unit(features_of(subject.photos, judge).vectors) for name, judge in judges.items()}
        texts = _unit(reader.read(captions)) if reader else None
        shown = []
        for row in rows:
            drawn = draw_row(lexicon, settings, store, subject, captions, row)
            for name, judge in judges.items():
                again = _unit(features_of(drawn, judge).vectors)
                scores[row.title].setdefault(f"{judge.name} subject", []).append((again @ seen[name].T).mean().item())
            if reader:
                again = _unit(features_of(drawn, reader).vectors)
                own = texts.repeat_interleave(settings.per_prompt, 0)
                scores[row.title].setdefault(f"{reader.name} prompt", []).append((again * own).sum(1).mean().item())
            shown.append([subject.photos[0], *drawn[:: settings.per_prompt][:GRID_PROMPTS]])
            done += 1
            if on_picture:
                on_picture(done, total)
        titles = ["photo", *captions[:GRID_PROMPTS]]
        grid(shown, titles, [row.title for row in rows], size=160).save(settings.out / f"{subject.name}.png")
    results = {
        "subjects": [subject.name for subject in subjects],
        "settings": identity,
        "rows": {row: {name: interval(np.array(one)) for name, one in found.items()} for row, found in scores.items()},
    }
    (settings.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (settings.out / "results.md").write_text(to_markdown(results["rows"]))
    if reader:
        write_trade(results["rows"], settings.out / "trade.svg")
    return results


def rows_of(settings: SubjectSettings) -> list[Row]:
    """Words alone; then for each number of tokens the tokens alone and every weight of text-free guidance."""
    rows = [Row(WORDS, "{}", Guidance(settings.cfg))]
    for count in settings.counts:
        rows.append(Row(f"{count} tokens alone", f"<subject:{count}>", Guidance(settings.cfg)))
        rows += [
            Row(f"{count} tokens, TFG {weight:g}", f"<subject:{count}> {{}}", Guidance(settings.cfg, weight))
            for weight in settings.tfg
        ]
    return rows


def draw_row(
    lexicon: VisualLexicon,
    settings: SubjectSettings,
    store: PictureStore,
    subject: Subject,
    captions: list[str],
    row: Row,
) -> list[Image.Image]:
    """A subject's pictures in one row, prompt by prompt; those that are there already are read."""
    folder, each = f"{subject.name}/{row.title}", settings.per_prompt
    tokens = None
    for i, caption in enumerate(captions):
        numbers = list(range(i * each, (i + 1) * each))
        if store.has(folder, 0, numbers):
            continue
        if tokens is None:
            tokens = {"subject": lexicon.encode(subject.photos[:1])[0]} if "<subject" in row.prompt else {}
        drawn = lexicon.generate(
            row.prompt.format(caption), tokens, guidance=row.guidance, num_images=each, seed=numbers,
            steps=settings.steps, scheduler=settings.scheduler, batch_size=settings.batch_size,
        )  # fmt: skip
        store.save(folder, 0, numbers, drawn)
    return store.load(folder, 0, len(captions) * each)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return F.normalize(vectors.float(), dim=1)
