"""`vilex study make` and `vilex study power`: a design, and what it can settle before anybody is asked."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vilex.cli.manifest import check_folder
from vilex.cli.options import MOST_SEED, Json, Quiet, parse_numbers, print_summary
from vilex.errors import InputError

if TYPE_CHECKING:
    from vilex.study.dealing import Deal
    from vilex.study.power import Power

ALONE = "no comparison is seen by two raters, so that nothing will be known of how far they agree; more --comparisons"
MOST_SOURCES = 10_000
COMPARISONS = 40  # of each rater by default, where there are as many

Methods = Annotated[
    list[str], typer.Argument(help="[NAME=]FOLDER of each method's pictures; FOLDER#16 for one number of tokens.")
]
Source = Annotated[Path, typer.Option(help="Folder of the pictures that they were made from.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder of the study.")]
Raters = Annotated[int, typer.Option(min=2, max=500, help="How many raters are wanted.")]
Comparisons = Annotated[
    int | None, typer.Option(min=1, max=1000, help="Of each rater; 40 by default, or all there are.")
]
Repeats = Annotated[int, typer.Option(min=0, max=100, help="Comparisons that each rater sees again.")]
Checks = Annotated[int, typer.Option(min=0, max=100, help="Easy comparisons that show who looks.")]
Practice = Annotated[int, typer.Option(min=0, max=20, help="Trials before the first that counts.")]
Criteria = Annotated[str, typer.Option(help="semantic, style, layout; comma-separated.")]
Ties = Annotated[bool, typer.Option("--ties", help="Let raters say that there is no difference.")]
Against = Annotated[str | None, typer.Option(help="The one method that all others are compared with.")]
Difference = Annotated[
    float, typer.Option(min=0.501, max=0.999, help="Win rate that the study should tell from one half.")
]
LeastChecks = Annotated[float, typer.Option(min=0, max=1, help="Who gets fewer of the checks right is left out.")]
LeastSeconds = Annotated[float, typer.Option(min=0, max=3600, help="Whose median answer is faster is left out.")]
LeastFinished = Annotated[float, typer.Option(min=0, max=1, help="Who answers a smaller share is left out.")]
Text = Annotated[Path | None, typer.Option(help="TOML file of what raters read; English by default.")]
Seed = Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of order, sides, and who sees what.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a study that was not served yet.")]


def make(
    methods: Methods,
    source: Source,
    out: Out = Path("study"),
    raters: Raters = 20,
    comparisons: Comparisons = None,
    repeats: Repeats = 4,
    checks: Checks = 4,
    practice: Practice = 2,
    criteria: Criteria = "semantic,style,layout",
    ties: Ties = False,
    against: Against = None,
    difference: Difference = 0.6,
    least_checks: LeastChecks = 0.75,
    least_seconds: LeastSeconds = 0.7,
    least_finished: LeastFinished = 0.5,
    text: Text = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Pair methods' pictures by source, deal them to raters, and say what so many raters can settle."""
    from vilex.study.dealing import Deal, method_pairs
    from vilex.study.design import Rule, StudyPlan, make_study
    from vilex.study.folders import read_method, read_sources
    from vilex.study.power import power_table
    from vilex.study.wording import load_wording

    asked, wording, sources = _criteria(criteria), load_wording(text), read_sources(source)
    found = [read_method(given, sources) for given in methods]
    common = sum(all(one.name in method.pictures for method in found) for one in sources)
    pairs = method_pairs(len(found), next((i for i, method in enumerate(found) if method.name == against), None))
    each = comparisons or max(1, min(COMPARISONS, common * len(pairs)))
    deal = Deal(each, repeats if comparisons else min(repeats, each), checks, practice)
    rule = Rule(least_checks, least_seconds, least_finished)
    plan = StudyPlan(deal, raters, seed, asked, ties, against, difference, rule)
    check_folder(out)
    design = make_study(out, found, sources, plan, wording, overwrite).design
    powers = power_table(len(design.sources), pairs, deal, raters, difference, seed)
    summary = {
        "folder": str(out), "methods": list(design.methods), "sources": len(design.sources),
        "sources_left_out": len(sources) - len(design.sources), "comparisons": deal.comparisons,
        "power": [vars(power) for power in powers],
    }  # fmt: skip
    lines = [*_made(summary, deal, len(pairs)), "", *_settled(powers, raters, difference)]
    if raters * deal.comparisons <= len(design.sources) * len(pairs):
        lines.append(f"warning: {ALONE}")
    lines += ["", f"-> {out}; next: vilex study serve {out}"]
    print_summary(summary, "\n".join(lines), quiet, as_json)


def power(
    sources: Annotated[str, typer.Option(help="Sources that every method has a picture of; several, comma-separated.")],
    methods: Annotated[int, typer.Option(min=2, max=20, help="Methods, each compared with each.")] = 2,
    one_against_all: Annotated[
        bool, typer.Option("--one-against-all", help="All others are compared with one method alone, as by --against.")
    ] = False,
    raters: Raters = 20,
    comparisons: Comparisons = None,
    difference: Difference = 0.6,
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """How often so many raters would tell a win rate from one half, before there are pictures to make a study of."""
    from vilex.study.dealing import Deal, method_pairs
    from vilex.study.power import power_table

    counts = parse_numbers(sources, "--sources", MOST_SOURCES)
    if few := [count for count in counts if count < 2]:
        raise InputError(f"--sources {few[0]}: expected 2 to {MOST_SOURCES}")
    pairs = method_pairs(methods, 0 if one_against_all else None)
    tables, wanted, strict = {}, comparisons or COMPARISONS, comparisons is not None and len(counts) == 1
    each = {count: wanted if strict else min(wanted, count * len(pairs)) for count in counts}
    for count in counts:
        tables[count] = power_table(count, pairs, Deal(each[count], 0, 0, 0), raters, difference, seed)
    summary = {
        "pairs": len(pairs), "difference": difference,
        "comparisons": {str(count): most for count, most in each.items()},
        "power": {str(count): [vars(one) for one in table] for count, table in tables.items()},
    }  # fmt: skip
    lines = _side_by_side(tables, difference)
    if comparisons is not None:
        lines += [
            f"{count} sources make {most} comparisons; each rater of theirs has so many."
            for count, most in each.items()
            if most < comparisons
        ]
    if len(counts) == 1:
        lines = _settled(tables[counts[0]], raters, difference)
    print_summary(summary, "\n".join(lines), quiet, as_json)


def _criteria(given: str) -> tuple[str, ...]:
    from vilex.study.wording import CRITERIA

    named = given.split(",")
    if wrong := [name for name in named if name not in CRITERIA]:
        raise InputError(f"--criteria {wrong[0]}: expected {', '.join(CRITERIA)}, comma-separated")
    return tuple(name for name in CRITERIA if name in named)


def _made(summary: dict[str, Any], deal: "Deal", pairs: int) -> list[str]:
    """What was made."""
    each = f"{deal.comparisons} comparisons, {deal.repeats} again, {deal.checks} checks"
    left = f" ({summary['sources_left_out']} left out: not every method has them)" * bool(summary["sources_left_out"])
    return [
        f"{len(summary['methods'])} methods, {pairs} pairs, {summary['sources']} sources{left}",
        f"each rater: {each}, {deal.practice} for practice",
    ]


def _settled(powers: "list[Power]", raters: int, difference: float) -> list[str]:
    """What it can settle, and what would help where that is too little."""
    from vilex.study.power import ENOUGH

    lines = [
        f"How often a win rate of {difference:g} is told from one half, simulated for one pair and criterion:",
        "raters  answers  settled",
        *(f"{one.raters:6}  {one.answers:7}  {one.settled:7.0%}" for one in powers),
    ]
    own = next(one for one in powers if one.raters == raters)
    enough = next((one.raters for one in powers if one.settled >= ENOUGH), None)
    if own.settled >= ENOUGH:
        return [*lines, f"{raters} raters are enough."]
    warning = f"warning: {raters} raters cannot settle it ({own.settled:.0%}, under {ENOUGH:.0%})"
    if enough is not None:
        return [*lines, f"{warning}; {enough} would: --raters {enough}"]
    more = "more sources, more --comparisons, fewer pairs of methods, or a larger --difference"
    return [*lines, f"{warning}, nor can {powers[-1].raters}: {more}"]


def _side_by_side(tables: "dict[int, list[Power]]", difference: float) -> list[str]:
    """What it can settle with several numbers of sources; empty where fewer raters were enough."""
    raters = sorted({one.raters for table in tables.values() for one in table})
    found = {(count, one.raters): f"{one.settled:.0%}" for count, table in tables.items() for one in table}
    return [
        f"How often a win rate of {difference:g} is told from one half, simulated for one pair and criterion:",
        "raters" + "".join(f"  {f'{count} sources':>12}" for count in tables),
        *(f"{one:6}" + "".join(f"  {found.get((count, one), ''):>12}" for count in tables) for one in raters),
    ]
