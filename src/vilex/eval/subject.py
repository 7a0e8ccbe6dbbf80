"""The subject protocol (DreamBooth, arXiv 2208.12242): the subject of one photograph in 25 new prompts.

    subject fidelity   cosine of features of a drawn picture and of each photograph of the subject, their mean
    prompt fidelity    cosine of a drawn picture's image embedding and the prompt's text embedding (CLIP-T);
                       the prompt names the class and leaves the identifier out

The subject's first photograph is encoded, all of them are compared with. The prompt is [v, c]: its tokens, then
"a dog in the snow", as in joint training. Rows are numbers of tokens at weights of text-free guidance, beside
the two ends: the words alone, and the tokens alone. Baselines are tuned on all of a subject's photographs, which
takes the seconds that the results say. Pictures are known by the prompt, the photographs and the guidance that they
were drawn from: other prompts or photographs give new ones, in whatever order they come.
"""

import json
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from vilex.baselines import dreambooth, inversion
from vilex.baselines.tuning import TuningSettings
from vilex.errors import InputError
from vilex.eval.dreambooth_data import Prompts, Subject, read_prompts, read_subjects
from vilex.eval.features import Extractor, features_of, load_extractor
from vilex.eval.measures import interval
from vilex.eval.personalization import (
    Personalization,
    dreambooth_lora,
    encoded,
    read_seconds,
    textual_inversion,
    words_alone,
)
from vilex.eval.picture_store import PictureStore, folder_name, identity_of, noise_seed, text_key
from vilex.eval.tables import to_markdown, write_trade
from vilex.guidance import Guidance
from vilex.lexicon import VisualLexicon
from vilex.paths import file_name, replacing, write_keeping, write_text
from vilex.pictures.grid import grid
from vilex.prompt import parse
from vilex.tokens import counted

WORDS = "words alone"
BASELINES = ("textual-inversion", "dreambooth")
GRID_PROMPTS = 6


@dataclass(frozen=True)
class SubjectSettings:
    """What to evaluate, and how.

    Attributes:
        photos, prompts: see `vilex.eval.dreambooth_data`. subjects, captions: only the first so many.
        counts: numbers of tokens; tfg: weights of text-free guidance; a row for each pair.
        per_prompt: pictures a prompt.
        features: extractors of subject fidelity. text: the CLIP model of prompt fidelity, none if empty.
        baselines: any of `BASELINES`, a row each; inversion, dreambooth: how they are tuned.
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
    baselines: tuple[str, ...] = ()
    inversion: TuningSettings = inversion.DEFAULTS
    dreambooth: TuningSettings = dreambooth.DEFAULTS


@dataclass(frozen=True)
class SubjectRow:
    """One way to make the subject known, and the guidance to draw it with."""

    title: str
    personalization: Personalization
    guidance: Guidance


@dataclass(frozen=True)
class Agreement:
    """Prompt fidelity: from pictures and as many captions, [N] values, higher is better."""

    name: str
    of: Callable[[list[Image.Image], list[str]], torch.Tensor]


Scores = dict[str, dict[str, list[float]]]  # row -> measure -> a value a subject


def evaluate_subjects(
    lexicon: VisualLexicon,
    settings: SubjectSettings,
    on_row: Callable[[int, int], None] | None = None,
    agreement: Agreement | None = None,
) -> dict[str, Any]:
    """Draw what is missing, measure, and write results.json, results.md, a grid a subject and trade.svg.

    Args:
        on_row: called with (finished, all) rows of all subjects.
        agreement: prompt fidelity, if not by the CLIP model that the settings name.
    Raises:
        InputError: files or models are not there, or settings do not fit.
    """
    prompts = read_prompts(settings.prompts)
    subjects = read_subjects(settings.photos, prompts.classes)[: settings.subjects]
    rows = rows_of(settings)
    extractors = [load_extractor(name, lexicon.t2i.device) for name in settings.features]
    agreement = agreement or (clip_agreement(settings.text, lexicon.t2i.device) if settings.text else None)
    identity = {"photos": str(settings.photos), **identity_of(lexicon, settings)}
    store = PictureStore(settings.out, identity)
    scores: Scores = {row.title: {} for row in rows}
    for i, subject in enumerate(subjects):
        photos = [photo_features(subject, extractor) for extractor in extractors]
        captions = prompts.captions(subject.noun)[: settings.captions]
        shown = []
        for j, row in enumerate(rows):
            drawn = draw_row(lexicon, settings, store, subject, prompts, row)
            found = subject_fidelity(drawn, extractors, photos)
            if agreement:
                asked = [caption for caption in captions for _ in range(settings.per_prompt)]
                found[f"{agreement.name} prompt"] = agreement.of(drawn, asked).mean().item()
            seconds = read_seconds(learned_folder(settings, subject, row))
            for title, value in {**found, **({} if seconds is None else {"seconds": seconds})}.items():
                scores[row.title].setdefault(title, []).append(value)
            shown.append(drawn[:: settings.per_prompt][:GRID_PROMPTS])
            if on_row:
                on_row(i * len(rows) + j + 1, len(subjects) * len(rows))
        write_grid(settings.out, subject, captions, rows, shown)
    return write_results(settings.out, subjects, identity, scores)


def photo_features(subject: Subject, extractor: Extractor) -> torch.Tensor:
    """Unit features of a subject's photographs, [P, D], one in memory at a time."""
    return torch.cat([_unit(features_of([file.load()], extractor).vectors) for file in subject.files])


def subject_fidelity(
    drawn: list[Image.Image], extractors: list[Extractor], photos: list[torch.Tensor]
) -> dict[str, float]:
    """Mean cosine of pictures and photographs by measure; photos: unit features [P, D], an extractor each."""
    return {
        f"{extractor.name} subject": (_unit(features_of(drawn, extractor).vectors) @ seen.T).mean().item()
        for extractor, seen in zip(extractors, photos, strict=True)
    }


def write_grid(
    out: Path, subject: Subject, captions: list[str], rows: list[SubjectRow], shown: list[list[Image.Image]]
) -> None:
    """The subject's first photograph and a picture of each of the first prompts, a line a row."""
    photo = subject.files[0].load()
    titles = ["photo", *captions[:GRID_PROMPTS]]
    picture = grid([[photo, *line] for line in shown], titles, [row.title for row in rows], size=160)
    with replacing(out / f"{file_name(subject.name)}.png") as aside:
        picture.save(aside, "PNG")


def write_results(out: Path, subjects: list[Subject], identity: dict[str, Any], scores: Scores) -> dict[str, Any]:
    """Write results.json, results.md and, where prompts were measured, trade.svg; returns the results."""
    results: dict[str, Any] = {
        "subjects": [subject.name for subject in subjects],
        "settings": identity,
        "rows": {row: {name: interval(np.array(one)) for name, one in found.items()} for row, found in scores.items()},
    }
    write_keeping(out / "results.json", json.dumps(results, indent=2) + "\n")
    write_text(out / "results.md", to_markdown(results["rows"]))
    measured = {title.rsplit(" ", 1)[-1] for found in scores.values() for title in found}
    if {"prompt", "subject"} <= measured:
        with replacing(out / "trade.svg") as aside:
            write_trade(results["rows"], aside)
    return results


def clip_agreement(name: str, device: torch.device) -> Agreement:
    """CLIP-T: the cosine of a picture's and its caption's embeddings.

    Raises:
        InputError: the model reads no text.
    """
    reader = load_extractor(name, device)
    if not hasattr(reader, "read"):
        raise InputError(f"text model {name}: reads no text; give a CLIP or SigLIP model")

    def of(pictures: list[Image.Image], captions: list[str]) -> torch.Tensor:
        return (_unit(features_of(pictures, reader).vectors) * _unit(reader.read(captions))).sum(1)

    return Agreement(reader.name, of)


def rows_of(settings: SubjectSettings) -> list[SubjectRow]:
    """Words alone; for each number of tokens the tokens alone and every weight of text-free guidance; baselines.

    Raises:
        InputError: a baseline is unknown.
    """
    plain = Guidance(settings.cfg)
    rows = [SubjectRow(WORDS, words_alone(), plain)]
    for count in dict.fromkeys(settings.counts):
        title = counted(count)
        rows.append(SubjectRow(f"{title} alone", encoded(f"<subject:{count}>"), plain))
        mixed = encoded(f"<subject:{count}> {{}}")
        rows += [
            SubjectRow(f"{title}, TFG {weight:.10g}", mixed, Guidance(settings.cfg, weight))
            for weight in dict.fromkeys(settings.tfg)
        ]
    for name in dict.fromkeys(settings.baselines):
        if name not in BASELINES:
            raise InputError(f"baselines: unknown '{name}'; there are {', '.join(BASELINES)}")
        inverted = name == BASELINES[0]
        tuned = textual_inversion(settings.inversion) if inverted else dreambooth_lora(settings.dreambooth)
        rows.append(SubjectRow(name, tuned, plain))
    return rows


def draw_row(
    lexicon: VisualLexicon,
    settings: SubjectSettings,
    store: PictureStore,
    subject: Subject,
    prompts: Prompts,
    row: SubjectRow,
) -> list[Image.Image]:
    """A subject's pictures in one row, prompt by prompt; those that are there already are read.

    A caption's pictures begin from the same noise in every row.
    """
    folder, each, known = (subject.name, row.title), range(settings.per_prompt), row.personalization.key(subject)
    captions = prompts.captions(subject.noun)[: settings.captions]
    texts = row.personalization.prompts(prompts, subject.noun)[: settings.captions]
    guidance = str(astuple(row.guidance))
    stems = [text_key(text, caption, known, guidance) for text, caption in zip(texts, captions, strict=True)]
    keys = [[f"{stem}-{j}" for j in each] for stem in stems]
    seeds = [[noise_seed(text_key(caption), j) for j in each] for caption in captions]
    missing = [i for i, own in enumerate(keys) if not store.has(folder, 0, own)]
    if missing:
        at_once = max(1, settings.batch_size // settings.per_prompt)
        with row.personalization.learn(lexicon, subject, learned_folder(settings, subject, row)) as tokens:
            for part in (missing[i : i + at_once] for i in range(0, len(missing), at_once)):
                drawn = lexicon.generate(
                    [parse(texts[i], emphasis=False) for i in part], tokens,
                    guidance=row.guidance, num_images=settings.per_prompt,
                    seed=[seed for i in part for seed in seeds[i]], steps=settings.steps,
                    scheduler=settings.scheduler, batch_size=settings.batch_size,
                )  # fmt: skip
                store.save(folder, 0, [key for i in part for key in keys[i]], drawn)
    return store.read(folder, 0, [key for own in keys for key in own])


def learned_folder(settings: SubjectSettings, subject: Subject, row: SubjectRow) -> Path:
    """Where what a row learned of a subject is kept."""
    known = row.personalization.key(subject)
    return settings.out / "learned" / file_name(subject.name) / folder_name(row.title) / known


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return F.normalize(vectors.float(), dim=1)
