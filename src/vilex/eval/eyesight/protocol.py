"""Better eyes? Probes on frozen vectors, zero-shot classification and MMVP-VLM, of several eyes on the same pictures.

    classes    k-NN and a linear probe over the mean patch, and over the first tokens where they are asked for
    dense      a linear probe over patches, against masks: mean intersection over union, and pixels that are right
    zero-shot  the nearest class name, where there is a text side
    mmvp       pairs of pictures told apart by their captions

Of every seed another random four fifths of the pictures teach, and the rest chooses the strength of the probe's weight
decay; the pictures that are tested are the same for every seed and all eyes. Vectors are kept on disk by what made
them.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from vilex.errors import InputError
from vilex.eval.eyesight.asked import EyesSettings, Sets, read_sets
from vilex.eval.eyesight.measuring import Progress, measure_eyes
from vilex.eval.eyesight.scores import Score
from vilex.eval.eyesight.text_side import has_text
from vilex.eval.tables import to_markdown
from vilex.paths import write_keeping, write_text


def evaluate_eyes(settings: EyesSettings, on_picture: Progress = lambda *_: None) -> tuple[dict[str, Any], list[str]]:
    """Look, probe, compare, and write results.json and results.md.

    Args:
        on_picture: called with (whose eyes on what, seen, all).
    Returns:
        The results, and a line for each picture that was refused.
    Raises:
        InputError: sets or models are not there, or nothing is asked for.
    """
    sets = read_sets(settings)
    for name in settings.eyes if settings.zero_shot or settings.mmvp else ():
        if not has_text(name) and not settings.text:
            raise InputError(f"{name}: has no text side; give --text MODEL, the one that its tower was tuned from")
    found = {name: measure_eyes(name, settings, sets, on_picture) for name in settings.eyes}
    first, *others = settings.eyes
    results: dict[str, Any] = {
        "sets": _said(sets),
        "seeds": list(settings.seeds),
        "rows": {name: {title: score.interval() for title, score in own.scores.items()} for name, own in found.items()},
        "differences": {f"{first} - {other}": _over(found[first].scores, found[other].scores) for other in others},
        "notes": {name: own.notes for name, own in found.items()},
    }
    write_keeping(settings.out / "results.json", json.dumps(results, indent=2) + "\n")
    write_text(settings.out / "results.md", to_tables(results))
    return results, list(dict.fromkeys(line for own in found.values() for line in own.refused))


def _over(own: Mapping[str, Score], other: Mapping[str, Score]) -> dict[str, Any]:
    return {title: score.over(other[title]) for title, score in own.items() if title in other}


def _said(sets: Sets) -> dict[str, Any]:
    """What was looked at, and how much of it."""

    def about(given: Any) -> dict[str, Any]:
        return {"name": given.name, "pictures": len(given), "classes": len(given.classes)}

    named = {"classes": sets.classes, "test": sets.test, "dense": sets.dense, "dense test": sets.dense_test}
    found = {title: about(one) for title, one in named.items() if one is not None}
    return found | ({"mmvp": {"pairs": len(sets.pairs)}} if sets.pairs else {})


def to_tables(results: Mapping[str, Any]) -> str:
    """Scores, how far apart eyes are, and MMVP-VLM by pattern, as Markdown."""
    lines = [to_markdown(results["rows"], "eyes")]
    if results["differences"]:
        lines.append("Differences, picture by picture:\n")
        lines.append(to_markdown(results["differences"], "eyes"))
    patterns = {name: notes.get("MMVP-VLM by pattern", {}) for name, notes in results["notes"].items()}
    if any(patterns.values()):
        titles = list(next(iter(patterns.values())))
        lines.append("MMVP-VLM by pattern, of 1:\n")
        lines.append("\n".join(_pattern_rows(titles, patterns)) + "\n")
    return "\n".join(lines)


def _pattern_rows(titles: list[str], patterns: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield "| eyes | " + " | ".join(titles) + " |"
    yield "| --- |" + " ---: |" * len(titles)
    for name, own in patterns.items():
        yield f"| {name} | " + " | ".join(f"{own[title]:.3f}" for title in titles) + " |"
