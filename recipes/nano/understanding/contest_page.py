"""Results of the contest as numbers and as a page; rows that have not been run say so.

    python -m recipes.nano.understanding.contest_page CONTEST DOCS

copies a contest's page and numbers to DOCS/understanding-results.md and .json.
"""

import json
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recipes.nano.presets import UnderstandingPreset
from recipes.nano.understanding.contestants import CONTESTANTS, TABLES, Pair, TableOf
from recipes.nano.understanding.intervals import Answered, Interval, Numbers, Resamples, interval_of, mean_of_kinds
from recipes.nano.understanding.sets import EASY, NLVR, SHORT, sets_of
from vilex.paths import write_text
from vilex.understand.answers import Answer, read_answers
from vilex.understand.examples import Example, read_examples
from vilex.understand.mask_codec import MaskCodec, load_codec
from vilex.understand.metrics.marks import marks_of
from vilex.understand.tasks.registry import find_task

KINDS = {  # of questions, as the page calls them; those of our scenes first
    "what": "what", "style": "style", "colour": "colour", "where": "where", "count": "how many",
    "relation": "relation", "is-there": "yes or no", "sign": "signs", "ground": "ground", "size": "size",
    "caption": "captions, CIDEr", "refer": "referring, IoU",
    "clip": "clips: what happens", "clip-caption": "clips: captions, CIDEr",
    EASY: "easy-VQA", NLVR: "NLVR",
}  # fmt: skip
MEANT = ("what", "style", "colour", "where", "count", "relation", "is-there", "sign", "ground", "size")
MEAN = "questions of scenes, mean"
NOT_YET = "not yet run"
INTRODUCTION = """\
# What a language model sees with vilex-nano's eyes

Section 4.3 of the paper, its Tables 3, 4, 5, A1, A2 (right column) and A3, at the scale of two cores. Made by

    python -m recipes.nano towers understanding --data DIR --out OUT     # resumable
    python -m recipes.nano.understanding.contest_page OUT/understanding/CONTEST docs

A PaliGemma of transformers' own class, {width} wide and {layers} deep, learns from nothing to answer over frozen
features: {scenes:,} scenes of 128 pixels, {clips:,} clips of four frames{others}.
Validation and test scenes each hold a drawing that no stage ever saw, and are asked about that one. Every column has
the same sweep (rates {rates}, the best by the share of right short answers on validation) and {seeds} seeds. All
numbers are percent on the test set, except CIDEr, times 100; in brackets 95% intervals over pictures and seeds. The
first column answers without a picture, always what is commonest in training. Questions of one picture are packed
behind it, so it does not see them, as PaliGemma's does.
"""


@dataclass
class Row:
    """What is known of a contestant: marks by kind, and where they come from."""

    answered: dict[str, Answered]
    about: dict[str, Any] = field(default_factory=dict)


def write_results(
    home: Path,
    sets: Path,
    sweeps: Mapping[str, dict[str, Any]],
    missing: Mapping[str, str],
    distances: Mapping[str, dict[str, float]],
    settings: UnderstandingPreset,
) -> None:
    """Write results.json and results.md of all rows that are run.

    Args:
        sweeps: by contestant, as `run_sweep` gives them. missing: why others are not run.
        distances: of reconstruction, by contestant.
    """
    examples = read_examples(sets / "test.jsonl")
    rows = {name: read_row(sweep, examples) for name, sweep in sweeps.items()}
    found = {
        "sets": sets_of(sets),
        "settings": json.loads(json.dumps(asdict(settings))),
        "commonest": commonest(read_examples(sets / "train.jsonl"), examples),
        "rows": {},
        "differences": {},
        "distances": dict(distances),
        "missing": dict(missing),
    }
    means = _means(rows, settings)
    for name, by_kind in means.items():
        numbers = {kind: asdict(interval_of(values)) for kind, values in by_kind.items()}
        found["rows"][name] = {**rows[name].about, "kinds": numbers}
    for pair in dict.fromkeys(pair for number in settings.tables for pair in TABLES[number].pairs):
        if pair.one in means and pair.other in means:
            one, other = means[pair.one], means[pair.other]
            found["differences"][_key(pair)] = {
                kind: asdict(interval_of(one[kind] - other[kind])) for kind in one.keys() & other.keys()
            }
    write_text(home / "results.json", json.dumps(found, indent=1) + "\n")
    write_text(home / "results.md", to_page(found))


def read_row(sweep: Mapping[str, Any], examples: Sequence[Example]) -> Row:
    """A contestant's marks, from the answers of its chosen runs."""
    (best,) = sweep["best"].values()
    codec = load_codec()
    marks: dict[str, list[Numbers]] = defaultdict(list)
    pictures: dict[str, tuple[str, ...]] = {}
    for folder in best["folders"]:
        answers = {one.id: one for one in read_answers(Path(sweep["folder"]) / folder / "test.jsonl")}
        for kind, some in by_kind(examples).items():
            marks[kind].append(_marks([answers[one.id] for one in some], some, codec))
            pictures[kind] = tuple(str(one.fields["picture"]) for one in some)
    about = {
        "settings": best["settings"], "validation": best["validation"], "runs": len(sweep["runs"]),
        "weights_sha256": sweep["weights_sha256"],
        "seeds": {kind: [float(one.mean()) for one in values] for kind, values in marks.items()},
    }  # fmt: skip
    return Row({kind: Answered(np.stack(values), pictures[kind]) for kind, values in marks.items()}, about)


def by_kind(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """Examples by the kind that they name."""
    found: dict[str, list[Example]] = defaultdict(list)
    for one in examples:
        found[str(one.fields["kind"])].append(one)
    return found


def commonest(train: Sequence[Example], test: Sequence[Example]) -> dict[str, float]:
    """Percent right, by kind, of always answering what training answers most."""
    learnt: dict[str, Counter[str]] = defaultdict(Counter)
    for one in train:
        if one.fields["task"] == SHORT:
            learnt[str(one.fields["kind"])].update(one.suffixes)
    return {
        kind: 100 * float(np.mean([learnt[kind].most_common(1)[0][0] in one.truths for one in some]))
        for kind, some in by_kind(test).items()
        if kind in learnt
    }


def _marks(answers: Sequence[Answer], examples: Sequence[Example], codec: MaskCodec) -> Numbers:
    task = find_task(str(examples[0].fields["task"]))
    return 100 * np.array(marks_of(task, [one.answer for one in answers], examples, codec).values, dtype=float)


def _means(rows: Mapping[str, Row], settings: UnderstandingPreset) -> dict[str, dict[str, Numbers]]:
    """By contestant and kind, the means of all resamples, which are the same for all of one set."""
    found: dict[str, dict[str, Numbers]] = {name: {} for name in rows}
    resamples: dict[str, Resamples] = {}
    for name, row in rows.items():
        for own in {_set_of(kind) for kind in row.answered} - resamples.keys():
            pictures = [p for kind, one in row.answered.items() if _set_of(kind) == own for p in one.pictures]
            resamples[own] = Resamples(pictures, settings.seeds, settings.resamples)
        for kind, answered in row.answered.items():
            found[name][kind] = resamples[_set_of(kind)].means(answered)
        found[name][MEAN] = mean_of_kinds(found[name], [kind for kind in MEANT if kind in found[name]])
    return found


def _set_of(kind: str) -> str:
    """What is drawn together: pictures of one set."""
    if kind in (EASY, NLVR):
        return kind
    return "clips" if kind in ("clip", "clip-caption") else "scenes"


def _key(pair: Pair) -> str:
    return f"{pair.one} - {pair.other}"


def to_page(found: Mapping[str, Any]) -> str:
    """The page, table by table."""
    settings = found["settings"]
    others = "".join(f", {name}" for name in found["sets"] if name not in ("scenes", "clips"))
    rates = ", ".join(f"{rate:g}" for rate in settings["rates"])
    head = INTRODUCTION.format(**{**settings, "rates": rates, "others": others})
    return "\n".join([head, *(_table(TABLES[number], found) for number in settings["tables"]), _runs(found)])


def _table(table: TableOf, found: Mapping[str, Any]) -> str:
    kinds = [kind for kind in (*KINDS, MEAN) if _known(kind, found)]
    titles = ["no picture", *(CONTESTANTS[name].title for name in table.columns)]
    lines = [f"## {table.title}\n", f"{table.said}\n", _row("", titles), "| --- |" + " ---: |" * len(titles)]
    for kind in kinds:
        blind = found["commonest"].get(kind)
        cells = ["" if blind is None else f"{blind:.1f}"]
        cells += [_cell(found["rows"].get(name, {}).get("kinds", {}).get(kind)) for name in table.columns]
        lines.append(_row(KINDS.get(kind, f"**{kind}**"), cells))
    if found["distances"]:
        lines.append(_row("distance of pictures drawn again (lower is better)", ["", *_distances(table, found)]))
    for name in table.columns:
        if name in found["missing"]:
            lines.append(f"\n{CONTESTANTS[name].title}: {NOT_YET}.")
    return "\n".join([*lines, "", *_pairs(table, found, kinds)]) + "\n"


def _pairs(table: TableOf, found: Mapping[str, Any], kinds: Sequence[str]) -> list[str]:
    """Differences in points, and whether what is wanted holds."""
    if not table.pairs:
        return []
    titles = [f"{CONTESTANTS[pair.one].title} less {CONTESTANTS[pair.other].title}" for pair in table.pairs]
    lines = [_row("difference in points", titles), "| --- |" + " ---: |" * len(titles)]
    for kind in kinds:
        known = [found["differences"].get(_key(pair), {}).get(kind) for pair in table.pairs]
        lines.append(_row(KINDS.get(kind, f"**{kind}**"), [_cell(value, sign=True) for value in known]))
    for pair, title in zip(table.pairs, titles, strict=True):
        if pair.wanted is not None:
            wanted = f"at least {pair.wanted:g} points" if pair.wanted else "an interval above 0"
            lines.append(f"\nWanted of {title}, in the mean: {wanted}: {_verdict(pair, found)}.")
    return lines


def _verdict(pair: Pair, found: Mapping[str, Any]) -> str:
    value = found["differences"].get(_key(pair), {}).get(MEAN)
    if value is None:
        return NOT_YET
    holds = value["mean"] >= pair.wanted if pair.wanted else value["low"] > 0
    return f"{_cell(value, sign=True)}, {'holds' if holds else 'does not hold'}"


def _distances(table: TableOf, found: Mapping[str, Any]) -> list[str]:
    cells = []
    for name in table.columns:
        known = found["distances"].get(name)
        if known:
            cells.append(f"{known['mean']:.3f} ({known['low']:.3f} to {known['high']:.3f})")
        else:
            cells.append(NOT_YET if CONTESTANTS[name].draws else "no pooler")
    return cells


def _runs(found: Mapping[str, Any]) -> str:
    lines = ["## All runs\n", "| row | runs | chosen | validation, by seed |", "| --- | ---: | --- | --- |"]
    for name, row in found["rows"].items():
        scores = ", ".join(f"{score:.1f}" for score in row["validation"])
        lines.append(f"| {CONTESTANTS[name].title} | {row['runs']} | {' '.join(row['settings'])} | {scores} |")
    return "\n".join(lines) + "\n"


def _known(kind: str, found: Mapping[str, Any]) -> bool:
    return kind in found["commonest"] or kind == MEAN or any(kind in row["kinds"] for row in found["rows"].values())


def _cell(value: Mapping[str, float] | None, sign: bool = False) -> str:
    if value is None:
        return NOT_YET
    known = Interval(**value)
    form = "{:+.1f} ({:+.1f} to {:+.1f})" if sign else "{:.1f} ({:.1f} to {:.1f})"
    return form.format(known.mean, known.low, known.high)


def _row(first: str, cells: Sequence[str]) -> str:
    return f"| {first} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    for suffix in ("md", "json"):
        shutil.copy(Path(sys.argv[1]) / f"results.{suffix}", Path(sys.argv[2]) / f"understanding-results.{suffix}")
