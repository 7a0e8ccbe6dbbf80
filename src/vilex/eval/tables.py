"""Results as people read them: a Markdown table, and curves over the number of tokens."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vilex.extras import needs

Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]  # row -> measure -> {mean, low, high, seeds}


def to_markdown(rows: Rows, first: str = "from") -> str:
    """A line a row, a column a measure: the mean, and its interval in brackets. first: the title of the rows' names."""
    titles = list(dict.fromkeys(title for values in rows.values() for title in values))
    lines = [f"| {first} | " + " | ".join(titles) + " |", "| --- |" + " ---: |" * len(titles)]
    for row, values in rows.items():
        lines.append(f"| {row} | " + " | ".join(_cell(values.get(title)) for title in titles) + " |")
    return "\n".join(lines) + "\n"


def write_curves(rows: Rows, path: Path) -> None:
    """Every measure over the number of tokens; rows without tokens are level lines. An SVG file."""
    with needs("eval"):
        from matplotlib.figure import Figure

    titles = list(dict.fromkeys(title for values in rows.values() for title in values))
    figure = Figure(figsize=(3.2 * len(titles), 2.8), layout="constrained")
    for axes, title in zip(figure.subplots(1, len(titles), squeeze=False)[0], titles, strict=True):
        counted = {_tokens(row): values[title] for row, values in rows.items() if _tokens(row) and title in values}
        if counted:
            counts = sorted(counted)
            axes.plot(counts, [counted[k]["mean"] for k in counts], marker="o", color="black", label="tokens")
            low, high = ([counted[k][end] for k in counts] for end in ("low", "high"))
            axes.fill_between(counts, low, high, color="black", alpha=0.15, linewidth=0)
            axes.set_xscale("log")
            axes.set_xticks(counts, [str(k) for k in counts], minor=False)
            axes.minorticks_off()
        level = [row for row in rows if not _tokens(row) and title in rows[row]]
        for i, row in enumerate(level):
            axes.axhline(rows[row][title]["mean"], color=f"C{i}", linestyle="--", linewidth=1, label=row)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("tokens", fontsize=8)
        axes.tick_params(labelsize=8)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})


def write_trade(rows: Rows, path: Path) -> None:
    """Subject fidelity against prompt fidelity, a point a row, a panel for each measure of the subject. An SVG file."""
    with needs("eval"):
        from matplotlib.figure import Figure

    titles = list(next(iter(rows.values())))
    (prompt,) = (title for title in titles if title.endswith(" prompt"))
    subjects = [title for title in titles if title.endswith(" subject")]
    figure = Figure(figsize=(4 * len(subjects), 3.4), layout="constrained")
    for axes, title in zip(figure.subplots(1, len(subjects), squeeze=False)[0], subjects, strict=True):
        for row, values in rows.items():
            x, y = values[prompt]["mean"], values[title]["mean"]
            axes.plot(x, y, "o", color="black", markersize=4)
            axes.annotate(row, (x, y), fontsize=7, xytext=(4, 3), textcoords="offset points")
        axes.margins(0.15)  # room for the names
        axes.set_xlabel(prompt, fontsize=8)
        axes.set_ylabel(title, fontsize=8)
        axes.tick_params(labelsize=8)
    figure.savefig(path, format="svg", metadata={"Date": None})


def _tokens(row: str) -> int:
    """How many tokens a row is of; 0 if it is of none."""
    found = re.fullmatch(r"(\d+) tokens?", row)
    return int(found[1]) if found else 0


def _cell(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    if value["low"] == value["high"]:
        return f"{value['mean']:.4g}"
    return f"{value['mean']:.4g} ({value['low']:.4g} to {value['high']:.4g})"
