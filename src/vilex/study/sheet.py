"""What has to be told with a human evaluation, after Otani et al., CVPR 2023 (arXiv 2304.01816).

What the study's folder knows is filled in; what only those who ran it know is left to them, and marked.
"""

from typing import Any

from vilex.study.design import Study
from vilex.study.wording import CRITERIA

OPEN = "**to be filled in**"


def reporting_sheet(study: Study, results: dict[str, Any]) -> str:
    """The sheet as Markdown."""
    design, plan, raters = study.design, study.design.plan, results["raters"]
    deal, rule = plan.deal, plan.rule
    ties = "choice of A, B or no difference" if plan.ties else "forced choice of A or B"
    criteria = [name for name in CRITERIA if name in plan.criteria]
    median = [results["criteria"][name]["seconds"]["median"] for name in criteria]
    alphas = [results["criteria"][name]["alpha"] for name in criteria]
    met = f"all of them with {plan.against}" if plan.against else "every pair"
    lines = [
        "# Human evaluation", "",
        "## Task", "",
        f"- Methods: {', '.join(design.methods)}; compared: {met}.",
        f"- Pictures: {len(design.sources)} sources. How they were chosen: {OPEN}.",
        f"- Task: {ties}, the source above; both sides unnamed. Questions, one at a time, in this order:",
        *(f'    - {name}: "{getattr(study.wording.question, name)}" '
          f'({getattr(study.wording.question, f"{name}_hint")})' for name in criteria),
        f"- Pages: `vilex study serve`, {design.made_by}; language {study.wording.language}.",
        f"- Each rater: {deal.practice} practice trials, {deal.comparisons} comparisons, {deal.repeats} of them again "
        f"with sides exchanged, {deal.checks} checks (a method's picture against noise or another source).",
        f"- Order and sides: at random by seed {plan.seed}; each comparison seen about equally often, its sides in "
        "turn.",
        f"- Number of raters: {plan.raters} wanted beforehand, for a win rate of {plan.difference:g}.",
        f"- Design: SHA-256 {design.sha256}.", "",
        "## Raters", "",
        f"- Recruited from, and how: {OPEN}.",
        f"- Qualification asked for: {OPEN}.",
        f"- Payment, and for how long a task: {OPEN}.",
        f"- Ethics review: {OPEN}. Consent: asked on the first page; its text is in text.toml.",
        f"- Devices, screens and surroundings: {OPEN}.", "",
        "## Quality", "",
        f"- Raters are left out, by a rule fixed before the first answer, with under {rule.checks:.0%} of the checks "
        f"right (each by most of its answers), under {rule.finished:.0%} of all answers given, or a median under "
        f"{rule.seconds:g} seconds an answer.",
        f"- {raters['came']} raters came, {len(raters['left_out'])} were left out, {raters['kept']} count.",
        *(f"    - rater {one['rater']}: {one['why']}" for one in raters["left_out"]),
        f"- Checks right, of all raters: {raters['checks_right']} of {raters['checks']}.",
        f"- Krippendorff's alpha (nominal): {_each(criteria, [one['value'] for one in alphas])}.",
        f"- Seconds an answer, median: {_each(criteria, median)}.", "",
        "## Results", "",
        f"- {results['answers']} answers count; ties are half a win.",
        "- Intervals: 95%, by a bootstrap over pictures and raters (win rates, strengths), over pictures (alpha).",
        "- Numbers: report.md; every answer: answers.csv.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _each(criteria: list[str], values: list[float | None]) -> str:
    said = ("unknown" if value is None else f"{value:.3g}" for value in values)
    return ", ".join(f"{name} {value}" for name, value in zip(criteria, said, strict=True))
