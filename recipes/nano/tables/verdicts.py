"""Table 2 by an automatic judge: which of two re-created pictures keeps more of its source?

    semantics   the probability of the source's true concept
    layout      overlap (IoU) of the object's box with its box in the source, both as the judge reads them
    style       the probability of the source's true style

Only pictures of one object take part. A win rate is the share of pictures in which the first way scores higher,
halves for ties, with a 95% bootstrap interval over pictures; a half is no difference. What the judge reads in
the sources themselves is a row too: it is the best that can be reached.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch

from recipes.nano.tables.judge import Judge, Reading
from vilex.eval.measures import interval
from vilex.eval.picture_store import SOURCES, PictureStore

OPPONENTS = (
    "name",
    "sentence",
    "brief de-diffusion",
    "brief de-diffusion-all",
    "brief ip-adapter",
    "brief blip-diffusion",
)
CRITERIA = ("semantics", "layout", "style")


def judge_rows(
    judge: Judge, table: Path, store: PictureStore, places: dict[str, str], count: int, seeds: list[int]
) -> dict[str, Any]:
    """Read every row's pictures; all scores, and ViLex's win rates.

    Args:
        table: the sources with their concepts and styles. places: folder of pictures by row.
        count: pictures that were evaluated. seeds: of each row.
    """
    facts = pyarrow.parquet.read_table(table, columns=["concepts", "styles"]).slice(0, count).to_pylist()
    chosen = [i for i, row in enumerate(facts) if len(row["concepts"]) == 1 and row["concepts"][0] in judge.concepts]
    concepts = torch.tensor([judge.concepts.index(facts[i]["concepts"][0]) for i in chosen])
    styles = torch.tensor([judge.styles.index(facts[i]["styles"][0]) for i in chosen])
    pictures = store.load(SOURCES, 0, count)
    source = judge.read([pictures[i] for i in chosen])
    scores: dict[str, dict[str, np.ndarray]] = {SOURCES: score([source], source, concepts, styles)}
    for title, place in places.items():
        drawn = (store.load(place, seed, count) for seed in seeds)
        readings = [judge.read([one[i] for i in chosen]) for one in drawn]
        scores[title] = score(readings, source, concepts, styles)
    return {
        "pictures": len(chosen),
        "rows": {title: {name: interval(values) for name, values in own.items()} for title, own in scores.items()},
        "wins": {
            f"{one} against {other}": {
                name: interval(wins(scores[one][name], scores[other][name])) for name in CRITERIA
            }
            for one in scores
            for other in scores
            if is_vilex(one) and other in OPPONENTS
        },
    }


def score(
    readings: list[Reading], source: Reading, concepts: torch.Tensor, styles: torch.Tensor
) -> dict[str, np.ndarray]:
    """Each criterion of N pictures and whether concept and style are read right, [seeds, N]."""
    everyone = torch.arange(len(concepts))
    found = {
        "semantics": [one.concept[everyone, concepts] for one in readings],
        "layout": [overlap(one.box, source.box) for one in readings],
        "style": [one.style[everyone, styles] for one in readings],
        "concept right": [(one.concept.argmax(1) == concepts).float() for one in readings],
        "style right": [(one.style.argmax(1) == styles).float() for one in readings],
    }
    return {name: torch.stack(values).numpy() for name, values in found.items()}


def overlap(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Intersection over union of boxes [N, 4] (left, top, right, bottom), [N]."""
    corner, opposite = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (opposite - corner).clamp_min(0).prod(1)
    return shared / (_area(a) + _area(b) - shared).clamp_min(1e-6)


def is_vilex(row: str) -> bool:
    """Whether a row is drawn from ViLex's tokens."""
    return row.startswith("brief vilex") or row.endswith((" token", " tokens"))


def wins(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 where the first is better, 0 where the second is, a half for ties; [seeds, N]."""
    return (np.sign(one - other) + 1) / 2


def _area(box: torch.Tensor) -> torch.Tensor:
    return (box[:, 2:] - box[:, :2]).clamp_min(0).prod(1)
