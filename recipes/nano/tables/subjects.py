"""The subject protocol on held-out drawings: text-free guidance against plain, one pass against tuning.

A subject is one drawing on four plain grounds; the prompts ask for places and for other styles. Prompt fidelity
is the judge's: the probability of the place or the style that was asked for.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from recipes.nano.colours import PALETTE
from recipes.nano.presets import Preset
from recipes.nano.scenes import SIZE, SIZES, Ground, Placed, Scene
from recipes.nano.sprites import CONCEPTS, Sprite, load_sprites, select
from recipes.nano.tables.judge import GROUNDS, Judge
from vilex.baselines.tuning import TuningSettings
from vilex.eval.subject import BASELINES, Agreement, SubjectSettings, evaluate_subjects
from vilex.lexicon import VisualLexicon

GROUND_COLOURS = ("beige", "cyan", "pink", "lime")
ASKED = {  # what follows the noun: (head of the judge, what it should read)
    "in the snow": ("ground", "snow"),
    "on the grass": ("ground", "grass"),
    "at night": ("ground", "night"),
    "on the beach": ("ground", "beach"),
    "under water": ("ground", "water"),
    "in flat style": ("style", "fluent-flat"),
    "in outline style": ("style", "openmoji"),
    "in rendered 3d style": ("style", "fluent-3d"),
}
TEMPLATES = ("a photo of {}", "a picture of {}", "an image of {}", "{}")  # as the frozen model's captions begin


def draw_subjects(preset: Preset, data: Path, out: Path, lexicon: VisualLexicon, judge: Judge) -> dict[str, Any]:
    """Results of the protocol, with pictures in `out`/report/subjects."""
    folder, settings = out / "report", preset.report
    write_benchmark(preset, data, folder / "benchmark")
    protocol = SubjectSettings(
        folder / "benchmark", folder / "benchmark" / "prompts_and_classes.txt", folder / "subjects", counts=(1, 4, 16),
        tfg=(settings.cfg, 2 * settings.cfg, 4 * settings.cfg), per_prompt=2, features=("lite0",), text="",
        cfg=settings.cfg, steps=settings.steps, baselines=BASELINES,
        inversion=TuningSettings(settings.inversion_steps, lr=5e-3, templates=TEMPLATES),
        dreambooth=TuningSettings(settings.dreambooth_steps, lr=1e-3, templates=TEMPLATES),
    )  # fmt: skip
    results = evaluate_subjects(lexicon, protocol, agreement=Agreement("judge", lambda *seen: agree(judge, *seen)))
    return {**results, "settings": {**results["settings"], "photos": "benchmark"}}


def agree(judge: Judge, pictures: list[Image.Image], captions: list[str]) -> torch.Tensor:
    """The probability of the place or style that each caption asks for, [N]."""
    reading = judge.read(pictures)
    values = []
    for i, caption in enumerate(captions):
        head, wanted = next(asked for words, asked in ASKED.items() if caption.endswith(words))
        names = GROUNDS if head == "ground" else judge.styles
        values.append(getattr(reading, head)[i, names.index(wanted)])
    return torch.stack(values)


def write_benchmark(preset: Preset, data: Path, folder: Path) -> None:
    """Subjects and prompts in the DreamBooth benchmark's own layout."""
    drilled = CONCEPTS[: preset.data.focus_concepts]
    drawings = select(load_sprites(data / "emoji-64px.parquet"), drilled, held_out=True)
    first = {drawing.concept: drawing for drawing in reversed(drawings)}  # one of each concept
    chosen = [first[concept] for concept in drilled if concept in first][: preset.report.subjects]
    for drawing in chosen:
        for i, colour in enumerate(GROUND_COLOURS):
            path = folder / drawing.word.replace(" ", "-") / f"{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(_on(colour, drawing).render()).save(path)
    rows = [f"{drawing.word.replace(' ', '-')},{drawing.word}" for drawing in chosen]
    prompts = [f"'a {{0}} {{1}} {words}'.format(unique_token, class_token)," for words in ASKED]
    text = ["Classes", "", "subject_name,class", *rows, "", "Prompts", ""]
    for title in ("Object Prompts", "Live Subject Prompts"):
        text += [title, "", "prompt_list = [", *prompts, "]", ""]
    (folder / "prompts_and_classes.txt").write_text("\n".join(text))


def _on(colour: str, drawing: Sprite) -> Scene:
    pixels = np.broadcast_to(np.array(PALETTE[colour], dtype=np.uint8), (SIZE, SIZE, 3)).copy()
    return Scene(Ground("plain", (colour,), pixels), (Placed(drawing, SIZE // 2, SIZE // 2, SIZES[-1]),))
