"""What names draw: every drilled concept by its bare name, read by the judge; and how well the judge reads at all."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from recipes.nano.captions import with_article
from recipes.nano.presets import Preset
from recipes.nano.scenes import random_scene
from recipes.nano.sprites import load_sprites, word_of
from recipes.nano.tables.judge import Judge, facts_of
from vilex.eval.measures import interval
from vilex.guidance import Guidance
from vilex.lexicon import VisualLexicon
from vilex.pictures.grid import grid

CHECKED = 2000  # real scenes that the judge's own accuracy is measured on


def read_names(preset: Preset, out: Path, lexicon: VisualLexicon, judge: Judge) -> dict[str, Any]:
    """Draw each concept from each seed; pictures of the first seed go to `out`/report/names.png.

    Returns:
        `concepts`: N; `seeds`; `cfg`; `right`: the share of pictures whose concept is read right, with its interval
        over concepts; `wrong`: concepts that are read wrong from every seed.
    """
    settings = preset.report
    seeds = list(range(settings.seeds))
    prompts = [with_article(word_of(concept)) for concept in judge.concepts]
    guidance = Guidance(cfg=settings.names_cfg)
    drawn = [
        lexicon.generate(prompts, guidance=guidance, seed=seed, steps=settings.steps, batch_size=settings.batch)
        for seed in seeds
    ]
    true = torch.arange(len(prompts))
    right = torch.stack([judge.read(pictures).concept.argmax(1) == true for pictures in drawn]).float().numpy()
    wrong = [concept for concept, own in zip(judge.concepts, right.T, strict=True) if not own.any()]
    folder = out / "report"
    folder.mkdir(parents=True, exist_ok=True)
    grid([drawn[0][i : i + 16] for i in range(0, len(prompts), 16)]).save(folder / "names.png")
    about = {"concepts": len(prompts), "seeds": seeds, "cfg": settings.names_cfg}
    return {**about, "right": interval(right), "wrong": wrong}


def check_judge(preset: Preset, data: Path, judge: Judge) -> dict[str, float]:
    """The judge's accuracy on scenes that it was not trained on: concept, style and ground."""
    sprites = [sprite for sprite in load_sprites(data / "emoji-64px.parquet") if sprite.concept in judge.concepts]
    rng = np.random.default_rng(9)
    scenes = [random_scene(sprites, rng, alone=1.0) for _ in range(min(CHECKED, preset.judge.scenes))]
    pixels = torch.from_numpy(np.stack([scene.render() for scene in scenes])).permute(0, 3, 1, 2)
    reading, true = judge.read_pixels(pixels), facts_of(scenes, judge.concepts)
    heads = {"concept": reading.concept, "style": reading.style, "ground": reading.ground}
    return {
        name: (said.argmax(1) == fact).float().mean().item()
        for (name, said), fact in zip(heads.items(), true, strict=False)
    }
