"""A study's report as files: results.json, report.md, win-rates.svg, answers.csv, and a sheet to publish with it."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from vilex.extras import needs
from vilex.paths import replacing, write_text
from vilex.study.answer_store import PERSON, Answers
from vilex.study.dealing import METHOD, NOISE, Pictured
from vilex.study.design import Design
from vilex.study.results import study_results
from vilex.study.sheet import reporting_sheet

UNKNOWN = "unknown"
COLUMNS = (
    "rater", "kind", "kept", "trial", "trial_kind", "source", "left", "right", "criterion", "choice",
    "chosen", "seconds",
)  # fmt: skip


def write_report(answers: Answers, out: Path) -> dict[str, Any]:
    """Write all files of a report; returns the results.

    Raises:
        InputError: nothing can be written there.
    """
    results = study_results(answers)
    write_text(out / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_text(out / "report.md", to_tables(results))
    write_text(out / "answers.csv", answers_csv(answers, {one["rater"] for one in results["raters"]["left_out"]}))
    write_text(out / "sheet.md", reporting_sheet(answers.study, results))
    plot_win_rates(results, out / "win-rates.svg")
    return results


def to_tables(results: dict[str, Any]) -> str:
    """Win rates, strengths and agreement as Markdown tables."""
    methods, criteria, raters = results["methods"], results["criteria"], results["raters"]
    lines = [
        f"{raters['kept']} raters, {results['answers']} answers; {len(raters['left_out'])} of {raters['came']} raters "
        "were left out by the study's rule. Intervals: 95%, over pictures and raters; ties are half a win.",
        "", "## Win rates", "", _head(["the first against the second", *criteria]),
    ]  # fmt: skip
    rows = {name: one["win_rates"] for name, one in criteria.items()}
    for number, pair in enumerate(next(iter(rows.values()))):
        title = f"{methods[pair['first']]} against {methods[pair['second']]}"
        lines.append(_row([title, *(_share(row[number]) for row in rows.values())]))
    if any(one["strengths"] for one in criteria.values()):
        lines += ["", "## Strengths (Bradley-Terry, logarithms, mean 0)", "", _head(["method", *criteria])]
        for number, method in enumerate(methods):
            cells = [one["strengths"][number] if one["strengths"] else {} for one in criteria.values()]
            lines.append(_row([method, *map(_share, cells)]))
    lines += ["", "## Agreement and time", "", _head(["", *criteria])]
    for title, key in (("Krippendorff's alpha", "alpha"), ("with themselves, on repeats", "self_agreement")):
        lines.append(_row([title, *(_share(one[key]) for one in criteria.values())]))
    lines.append(_row(["two raters say the same", *(_cell(one["pairwise_agreement"]) for one in criteria.values())]))
    lines.append(_row(["seconds an answer, median", *(_cell(one["seconds"]["median"]) for one in criteria.values())]))
    for name, judged in results["judges"].items():
        cells = [_share(judged[criterion]["agreement"]) for criterion in criteria]
        lines.append(_row([f"people with the judge {name}", *cells]))
    if all(one["pairwise_agreement"] is None for one in criteria.values()):
        lines += ["", "No comparison was answered by two raters, so that nothing is known of how far they agree."]
    if raters["left_out"]:
        lines += ["", "## Left out", "", *(f"- rater {one['rater']}: {one['why']}" for one in raters["left_out"])]
    return "\n".join(lines) + "\n"


def answers_csv(answers: Answers, left_out: set[int]) -> str:
    """Every answer with what was seen, by rater, practice and checks included."""
    design, known = answers.study.design, {rater.number: rater for rater in answers.raters()}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for answer in sorted(answers.all(), key=lambda one: (one.rater, one.trial, one.at)):
        rater = known.get(answer.rater)
        if rater is None:  # deleted just now
            continue
        trial = design.slots[rater.slot][answer.trial]
        sides = {side: _named(design, shown) for side, shown in (("left", trial.left), ("right", trial.right))}
        kind, kept = ("person" if rater.kind == PERSON else rater.kind), int(rater.number not in left_out)
        seconds = "" if answer.seconds is None else f"{answer.seconds:.3f}"
        table.writerow(
            [
                rater.number, kind, kept, answer.trial, trial.kind, design.sources[trial.source], sides["left"],
                sides["right"], answer.criterion, answer.choice, sides.get(answer.choice, "tie"), seconds,
            ]
        )  # fmt: skip
    return text.getvalue()


def plot_win_rates(results: dict[str, Any], path: Path) -> None:
    """Every pair's win rate and interval, a panel for each criterion. An SVG file."""
    with needs("study"):
        from matplotlib.figure import Figure

    methods, criteria = results["methods"], results["criteria"]
    pairs = next(iter(criteria.values()))["win_rates"]
    titles = [f"{methods[pair['first']]} against {methods[pair['second']]}" for pair in pairs]
    figure = Figure(figsize=(3.2 * len(criteria) + 1.5, 0.9 + 0.32 * len(pairs)), layout="constrained")
    panels = figure.subplots(1, len(criteria), squeeze=False, sharey=True)[0]
    for axes, (name, one) in zip(panels, criteria.items(), strict=True):
        for place, row in enumerate(one["win_rates"]):
            if row["value"] is not None:
                axes.plot([row["low"], row["high"]], [place, place], color="black", linewidth=1.2)
                axes.plot(row["value"], place, "o", color="black", markersize=4, clip_on=False)
        axes.axvline(0.5, color="grey", linestyle="--", linewidth=0.8)
        axes.set_xlim(0, 1)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=8)
    panels[0].set_yticks(range(len(titles)), titles)
    panels[0].set_ylim(len(pairs) - 0.5, -0.5)
    figure.supxlabel("share of answers for the first", fontsize=8)
    with replacing(path) as aside:
        figure.savefig(aside, format="svg", metadata={"Date": None})


def _named(design: Design, shown: Pictured) -> str:
    if shown.what == METHOD:
        return design.methods[shown.number]
    return NOISE if shown.what == NOISE else f"source {design.sources[shown.number]}"


def _head(titles: list[str]) -> str:
    return _row(titles) + "\n| --- |" + " ---: |" * (len(titles) - 1)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g}"


def _share(value: dict[str, Any]) -> str:
    if value.get("value") is None:
        return UNKNOWN
    if value["low"] is None:
        return _cell(value["value"])
    return f"{_cell(value['value'])} ({_cell(value['low'])} to {_cell(value['high'])})"
