"""The subject protocol (DreamBooth, arXiv 2208.12242): the subject of one photograph in 25 new prompts.

    subject fidelity   cosine of features of a drawn picture and of each photograph of the subject, their mean
    prompt fidelity    cosine of a drawn picture's image embedding and the prompt's text embedding (CLIP-T);
                       the prompt names the class and leaves the identifier out

The subject's first photograph is encoded, all of them are compared with. The prompt is [v, c]: its tokens, then
"a dog in the snow", as in joint training. Rows are numbers of tokens at weights of text-free guidance, beside
the two ends: the words alone, and the tokens alone. Baselines are tuned on all of a subject's photographs, which
takes the seconds that the results say.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from vilex.baselines import dreambooth as dreambooth_lora
from vilex.baselines import inversion
from vilex.baselines.tuning import TuningSettings
from vilex.errors import InputError
from vilex.eval.dreambooth_data import Prompts, Subject, read_prompts, read_subjects
from vilex.eval.features import features_of, load_extractor
from vilex.eval.measures import interval
from vilex.eval.personalization import Way, dreambooth, encoded, read_seconds, textual_inversion, words_alone
from vilex.eval.picture_store import PictureStore, identity_of
from vilex.eval.tables import to_markdown, write_trade
from vilex.guidance import Guidance
from vilex.lexicon import VisualLexicon
from vilex.pictures.grid import grid
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
    dreambooth: TuningSettings = dreambooth_lora.DEFAULTS


@dataclass(frozen=True)
class Row:
    """One way to make the subject known, and the guidance to draw it with."""

    title: str
    way: Way
    guidance: Guidance


@dataclass(frozen=True)
class Agreement:
    """Prompt fidelity: from pictures and as many captions, [N] values, higher is better."""

    name: str
    of: Callable[[list[Image.Image], list[str]], torch.Tensor]


def evaluate_subjects(
    lexicon: VisualLexicon,
    settings: SubjectSettings,
    on_picture: Callable[[int, int], None] | None = None,
    agreement: Agreement | None = None,
) -> dict[str, Any]:
    """Draw what is missing, measure, and write results.json, results.md, a grid a subject and trade.svg.

    Args:
        on_picture: called with (drawn, expected) pictures.
        agreement: prompt fidelity, if not by the CLIP model that the settings name.
    Raises:
        InputError: files or models are not there, or settings do not fit.
    """
    prompts = read_prompts(settings.prompts)
    subjects = read_subjects(settings.photos, prompts.classes)[: settings.subjects]
    judges = {name: load_extractor(name, lexicon.t2i.device) for name in settings.features}
    agreement = agreement or (clip_agreement(settings.text, lexicon.t2i.device) if settings.text else None)
    rows = rows_of(settings)
    identity = {
        "photos": str(settings.photos),
        "per_prompt": settings.per_prompt,
        **identity_of(lexicon, settings),
        **{name: asdict(getattr(settings, name)) for name in ("inversion", "dreambooth")},
    }
    store = PictureStore(settings.out, identity)
    scores: dict[str, dict[str, list[float]]] = {row.title: {} for row in rows}
    total, done = len(subjects) * len(rows), 0
    for subject in subjects:
        captions = prompts.captions(subject.noun)[: settings.captions]
        seen = {name: _unit(features_of(subject.photos, judge).vectors) for name, judge in judges.items()}
        asked = [caption for caption in captions for _ in range(settings.per_prompt)]
        shown = []
        for row in rows:
            drawn = draw_row(lexicon, settings, store, subject, prompts, row)
            found = scores[row.title]
            for name, judge in judges.items():
                again = _unit(features_of(drawn, judge).vectors)
                found.setdefault(f"{judge.name} subject", []).append((again @ seen[name].T).mean().item())
            if agreement:
                found.setdefault(f"{agreement.name} prompt", []).append(agreement.of(drawn, asked).mean().item())
            seconds = read_seconds(learned_folder(settings, subject, row))
            if seconds is not None:
                found.setdefault("seconds", []).append(seconds)
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
    if agreement:
        write_trade(results["rows"], settings.out / "trade.svg")
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


def rows_of(settings: SubjectSettings) -> list[Row]:
    """Words alone; for each number of tokens the tokens alone and every weight of text-free guidance; baselines.

    Raises:
        InputError: a baseline is unknown.
    """
    rows = [Row(WORDS, words_alone(), Guidance(settings.cfg))]
    for count in settings.counts:
        said = counted(count)
        rows.append(Row(f"{said} alone", encoded(f"<subject:{count}>"), Guidance(settings.cfg)))
        mixed = encoded(f"<subject:{count}> {{}}")
        rows += [Row(f"{said}, TFG {weight:g}", mixed, Guidance(settings.cfg, weight)) for weight in settings.tfg]
    for name in settings.baselines:
        if name not in BASELINES:
            raise InputError(f"baselines: unknown '{name}'; there are {', '.join(BASELINES)}")
        way = textual_inversion(settings.inversion) if name == BASELINES[0] else dreambooth(settings.dreambooth)
        rows.append(Row(name, way, Guidance(settings.cfg)))
    return rows


def draw_row(
    lexicon: VisualLexicon,
    settings: SubjectSettings,
    store: PictureStore,
    subject: Subject,
    prompts: Prompts,
    row: Row,
) -> list[Image.Image]:
    """A subject's pictures in one row, prompt by prompt; those that are there already are read."""
    folder, each = f"{subject.name}/{row.title}", settings.per_prompt
    texts = row.way.prompts(prompts, subject.noun)[: settings.captions]
    numbers = [list(range(i * each, (i + 1) * each)) for i in range(len(texts))]
    missing = [i for i, own in enumerate(numbers) if not store.has(folder, 0, own)]
    if missing:
        with row.way.known(lexicon, subject, learned_folder(settings, subject, row)) as tokens:
            for i in missing:
                drawn = lexicon.generate(
                    texts[i], tokens, guidance=row.guidance, num_images=each, seed=numbers[i],
                    steps=settings.steps, scheduler=settings.scheduler, batch_size=settings.batch_size,
                )  # fmt: skip
                store.save(folder, 0, numbers[i], drawn)
    return store.load(folder, 0, len(texts) * each)


def learned_folder(settings: SubjectSettings, subject: Subject, row: Row) -> Path:
    """Where what a row learned of a subject is kept."""
    return settings.out / "learned" / subject.name / row.title.replace(" ", "-")


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return F.normalize(vectors.float(), dim=1)
