"""Results as a page and as pictures: `python -m recipes.nano.tables.page REPORT DOCS` writes docs/results.md anew.

Everything in the page but `notes.md`, which says why a row comes out as it does, is made from results.json.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from recipes.nano.tables.claims import Claim, claims_of, readings_of
from vilex.eval.tables import to_markdown, write_curves, write_trade

TITLES = {
    "held-out": "Known concepts in drawings never trained on",
    "unseen": 'Other concepts in drawings never trained on, named "a drawing"',
}
INTRODUCTION = """\
# What vilex-nano shows

The paper's tables on vilex-nano, version {version}, at the scale of two cores. Made by

    make results DATA=DIR OUT=OUT        # trains the baselines, draws, measures; hours on two cores, resumable
    python -m recipes.nano.tables.page docs docs   # this page anew from results.json

Held-out pictures are drawn again by the frozen model from what they show (name: "a skull") and from a full true
sentence ("a picture of a skull at the top right on the grass, in rendered 3d style"), and from 1, 4, 16 and 75
tokens, in {steps} steps with guidance {cfg}; picture by picture all rows begin from the same noise. Intervals are
95% bootstrap intervals over pictures, for measures of whole sets (kernel distance, score) the range over seeds.
By distance, kernel distance, rank and squared error lower is better. Distances are of EfficientNet-Lite0's ImageNet
features, so none of them is an FID; the rank is the source's place among all sources, 1 at best.
"""
BRIEF = """\
Rows called brief are trained alike, from the same head start on the same frozen model and pictures for the same
number of steps, fewer than the embedded model: ViLex (1, 4, 16, 75 tokens of one encoder), De-Diffusion (75 words
by Gumbel-softmax, of those that captions are written in; `all`: of the mosaics' words, too), IP-Adapter (16 tokens
by decoupled cross-attention), BLIP-Diffusion's way (16 tokens at fixed places, no TailDrop).
"""


def write_pages(report: Path, docs: Path) -> None:
    """Write results.md and plots to `docs` from `report`/results.json; copy the grids that lie in `report`."""
    results = json.loads((report / "results.json").read_text())
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name, found in results["reconstruction"].items():
        write_curves(_own_rows(found["rows"]), images / f"{name}.svg")
        _copy(report / name / "grid.png", images / f"{name}.png")
    write_trade(results["subjects"]["rows"], images / "tfg.svg")
    _copy(report / "names.png", images / "names.png")
    subject = results["subjects"]["subjects"][0]
    _copy(report / "subjects" / f"{subject}.png", images / "subject.png", width=800)
    if report != docs:
        shutil.copy(report / "results.json", docs / "results.json")
    (docs / "results.md").write_text(to_page(results))


def to_page(results: dict[str, Any]) -> str:
    """The page, section by section."""
    settings = results["reconstruction"]["held-out"]["settings"]
    notes = (Path(__file__).parent / "notes.md").read_text()
    sections = [
        INTRODUCTION.format(**settings, version=results["version"]),
        _claims("The paper's claims here", "claim (in the paper)", claims_of(results)),
        _names(results), notes, *_reconstruction(results["reconstruction"]),
        _verdicts(results["verdicts"]), _subjects(results["subjects"]), _probes(results["probes"]),
        _ablations(results["ablations"]),
    ]  # fmt: skip
    return "\n".join(section for section in sections if section)


def _claims(title: str, head: str, claims: list[Claim]) -> str:
    lines = [f"## {title}\n", f"| {head} | here | wanted | holds |", "| --- | ---: | ---: | --- |"]
    for claim in claims:
        sign = "at most" if claim.at_most else "at least"
        lines.append(
            f"| {claim.said} | {claim.value:.2f} | {sign} {claim.limit:g} | {'yes' if claim.holds else 'no'} |"
        )
    return "\n".join(lines) + "\n"


def _names(results: dict[str, Any]) -> str:
    """What is read in pictures from names and tokens; version 1's results have no such part."""
    if "names" not in results:
        return ""
    found = results["names"]
    seeds, right = ", ".join(map(str, found["seeds"])), found["right"]
    return "\n".join(
        [
            _claims("What is read in its pictures", "by the judge", readings_of(results)),
            f"Each of {found['concepts']} concepts by its bare name (guidance {found['cfg']:g}, seeds {seeds}) is read",
            f"right in {right['mean']:.0%} ({right['low']:.0%} to {right['high']:.0%}) of the pictures.\n",
            f"Wrong from every seed: {', '.join(found['wrong']) or 'none'}.\n",
            "![each concept by its name](images/names.png)\n",
        ]
    )


def _reconstruction(found: dict[str, Any]) -> list[str]:
    parts = ["## Table 1: pictures drawn again\n"]
    for name, results in found.items():
        seeds = ", ".join(map(str, results["seeds"]))
        parts.append(f"### {TITLES[name]} ({results['images']} pictures, seeds {seeds})\n")
        if any(row.startswith("brief") for row in results["rows"]):
            parts.append(BRIEF)
        parts.append(to_markdown(results["rows"]))
        parts.append(f"![{name}, over tokens](images/{name}.svg)\n\n![{name}](images/{name}.png)\n")
    return parts


def _verdicts(found: dict[str, Any]) -> str:
    pairs = {pair: pair.split(" against ") for pair in found["wins"]}
    equal = {pair for pair, (one, other) in pairs.items() if one.startswith("brief") == other.startswith("brief")}
    rows = {pair: found["wins"][pair] for pair in pairs if pair in equal}
    return "\n".join(
        [
            f"## Table 2: an automatic judge ({found['pictures']} pictures of one object)\n",
            "A small network trained on real scenes reads concept, style and the object's box (`tables/judge.py`):",
            "probability of the true concept and style, overlap (IoU) with the box in the source. The row source is",
            "what it reads in the sources themselves.\n",
            to_markdown(found["rows"]),
            "Win rates: the share of pictures in which the first way scores higher; 0.5 is no difference. Brief rows",
            "meet brief rows.\n",
            to_markdown(rows),
        ]
    )


def _subjects(found: dict[str, Any]) -> str:
    return "\n".join(
        [
            f"## Subjects in new places and styles ({len(found['subjects'])} held-out drawings, 8 prompts each)\n",
            "The subject protocol: fidelity to the subject (cosine of lite0 features, mean over its pictures), to the",
            "prompt (the judge's probability of the place or style asked for), and the seconds until the subject is",
            f"known. TFG at {found['settings']['cfg']:g} is plain guidance. Textual inversion and DreamBooth (LoRA)",
            "see all four pictures of a subject, the encoder one.\n",
            to_markdown(found["rows"]),
            "![subject against prompt](images/tfg.svg)\n\n![a subject](images/subject.png)\n",
        ]
    )


def _probes(found: dict[str, Any]) -> str:
    return "\n".join(
        [
            f"## Table 4 in small: linear probes ({found['pictures']} held-out pictures of one object)\n",
            f"Logistic regression on 256 principal components, trained on {found['trained on']} training scenes",
            "(`tables/probes.py`); the paper's own Table 4 needs a vision-language model.\n",
            to_markdown(found["rows"]),
        ]
    )


def _ablations(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    return "\n".join(
        [
            "## Tables A2 and A3, reconstruction columns\n",
            f"Each run {found['steps']} steps, {found['pictures']} held-out pictures.\n",
            to_markdown(found["rows"]),
        ]
    )


def _own_rows(rows: Mapping[str, Any]) -> dict[str, Any]:
    return {row: values for row, values in rows.items() if not row.startswith("brief vilex")}


def _copy(source: Path, target: Path, width: int = 1600) -> None:
    """A grid as a picture for the page, at most `width` pixels wide, of 256 colours: a third of the size."""
    if source.is_file():
        with Image.open(source) as picture:
            picture.thumbnail((width, 10 * width), Image.Resampling.LANCZOS)
            picture.convert("RGB").quantize(256).save(target, optimize=True)


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]), Path(sys.argv[2]))
