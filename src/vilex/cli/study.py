"""`vilex study ...`: people say which of two methods' pictures is closer to a source."""

import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from vilex.cli.manifest import check_file, check_folder
from vilex.cli.options import Device, Json, Overwrite, Quiet, print_summary
from vilex.errors import InputError
from vilex.extras import needs

app = typer.Typer(no_args_is_help=True, help="Ask people which of two methods' pictures is closer to a source.")

Folder = Annotated[Path, typer.Argument(help="The study's folder.")]
Number = Annotated[int, typer.Argument(min=1, help="The rater's number, as reports call it.")]


@app.command()
def make(
    methods: Annotated[
        list[str],
        typer.Argument(help="[NAME=]FOLDER of each method's pictures; FOLDER#16 for one number of tokens."),
    ],
    source: Annotated[Path, typer.Option(help="Folder of the pictures that they were made from.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the study.")] = Path("study"),
    raters: Annotated[int, typer.Option(min=2, max=500, help="How many raters are wanted.")] = 20,
    comparisons: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Of each rater; 40 by default, or all there are.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=0, max=100, help="Comparisons that each rater sees again.")] = 4,
    checks: Annotated[int, typer.Option(min=0, max=100, help="Easy comparisons that show who looks.")] = 4,
    practice: Annotated[int, typer.Option(min=0, max=20, help="Trials before the first that counts.")] = 2,
    criteria: Annotated[str, typer.Option(help="semantic, style, layout; comma-separated.")] = "semantic,style,layout",
    ties: Annotated[bool, typer.Option("--ties", help="Let raters say that there is no difference.")] = False,
    against: Annotated[str | None, typer.Option(help="The one method that all others are compared with.")] = None,
    difference: Annotated[
        float, typer.Option(min=0.501, max=0.999, help="Win rate that the study should tell from one half.")
    ] = 0.6,
    least_checks: Annotated[
        float, typer.Option(min=0, max=1, help="Who gets fewer of the checks right is left out.")
    ] = 0.75,
    least_seconds: Annotated[
        float, typer.Option(min=0, max=3600, help="Whose median answer is faster is left out.")
    ] = 0.7,
    least_finished: Annotated[float, typer.Option(min=0, max=1, help="Who answers a smaller share is left out.")] = 0.5,
    text: Annotated[Path | None, typer.Option(help="TOML file of what raters read; English by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**53, help="Of order, sides, and who sees what.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a study that was not served yet.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Pair methods' pictures by source, deal them to raters, and say what so many raters can settle."""
    from vilex.study.dealing import Deal, method_pairs
    from vilex.study.design import Rule, StudyPlan, make_study
    from vilex.study.folders import read_method, read_sources
    from vilex.study.power import power_table
    from vilex.study.wording import load_wording

    asked = _criteria(criteria)
    wording = load_wording(text)
    sources = read_sources(source)
    found = [read_method(given, sources) for given in methods]
    common = sum(all(one.name in method.pictures for method in found) for one in sources)
    against_number = next((i for i, method in enumerate(found) if method.name == against), None)
    pairs = method_pairs(len(found), against_number)
    deal = Deal(comparisons or max(1, min(40, common * len(pairs))), repeats, checks, practice)
    if comparisons is None:
        deal = Deal(deal.comparisons, min(repeats, deal.comparisons), checks, practice)
    plan = StudyPlan(
        deal, raters, seed, asked, ties, against, difference, Rule(least_checks, least_seconds, least_finished)
    )
    check_folder(out)
    study = make_study(out, found, sources, plan, wording, overwrite)
    powers = power_table(len(study.design.sources), pairs, deal, raters, difference, seed)
    summary = {
        "folder": str(out),
        "methods": list(study.design.methods),
        "sources": len(study.design.sources),
        "sources_left_out": len(sources) - len(study.design.sources),
        "comparisons": deal.comparisons,
        "power": [vars(power) for power in powers],
    }
    print_summary(summary, _made(summary, powers, plan, len(pairs)), quiet, as_json)


@app.command()
def serve(
    study: Folder,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for every machine of the network.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 7870,
    quiet: Quiet = False,
) -> None:
    """The raters' pages. Every answer is on the disk before its rater sees the next question."""
    from vilex.study.design import Study

    with needs("study"):
        from vilex.study.rating import rating_server

    opened = Study.open(study)
    with rating_server(opened, host, port) as address, suppress(KeyboardInterrupt):
        if not quiet:
            print(f"vilex study: {address}  (Ctrl-C ends it)", flush=True)
        threading.Event().wait()


@app.command()
def report(
    study: Folder,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder; STUDY/report by default.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Win rates, strengths, agreement and times: tables, plot, JSON, every answer, and a sheet to publish."""
    with needs("study"):
        import matplotlib  # noqa: F401 (before anything is computed)
    from vilex.study.reporting import to_tables, write_report

    folder = out or study / "report"
    answers = _answers(study)
    check_folder(folder)
    results = write_report(answers, folder)
    print_summary({"folder": str(folder), **results}, f"{to_tables(results)}\n-> {folder}", quiet, as_json)


@app.command()
def judge(
    study: Folder,
    features: Annotated[str, typer.Option(help="lite0, inception, or a hub id: nearer features are closer.")] = "lite0",
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Let an automatic judge answer what people are asked; reports then say how often they agree."""
    with needs("eval"):
        from vilex.study.judging import nearer_by_features, seat_judge
    from vilex.device import check_device

    check_device(device, "--device")
    answers = _answers(study)
    count = seat_judge(answers, features, nearer_by_features(answers, features, device))
    print_summary({"judge": features, "answers": count}, f"{count} answers by {features} -> {study}", quiet, as_json)


@app.command()
def export(
    study: Folder,
    rater: Number,
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write.")] = Path("answers.json"),
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write down all that is stored of one rater, as that rater may ask for."""
    from vilex.paths import write_text

    check_file(out, overwrite)
    answers = _answers(study)
    content = answers.export(answers.rater(rater))
    write_text(out, json.dumps(content, indent=1) + "\n")
    count = len(content["answers"])
    print_summary({"file": str(out), "answers": count}, f"{count} answers -> {out}", quiet, as_json)


@app.command()
def delete(study: Folder, rater: Number, quiet: Quiet = False, as_json: Json = False) -> None:
    """Forget one rater: the answers, and the link. Nothing brings them back."""
    answers = _answers(study)
    count = answers.delete(answers.rater(rater))
    print_summary({"rater": rater, "deleted": count}, f"rater {rater}: {count} answers deleted", quiet, as_json)


def _answers(folder: Path) -> Any:
    """The answers of a study that was served, or judged."""
    from vilex.study.answer_store import Answers
    from vilex.study.design import Study

    return Answers(Study.open(folder))


def _criteria(given: str) -> tuple[str, ...]:
    from vilex.study.wording import CRITERIA

    named = given.split(",")
    if wrong := [name for name in named if name not in CRITERIA]:
        raise InputError(f"--criteria {wrong[0]}: expected {', '.join(CRITERIA)}, comma-separated")
    return tuple(name for name in CRITERIA if name in named)


def _made(summary: dict[str, Any], powers: list[Any], plan: Any, pairs: int) -> str:
    """What was made, and what it can settle."""
    from vilex.study.power import ENOUGH

    each = f"{plan.deal.comparisons} comparisons, {plan.deal.repeats} again, {plan.deal.checks} checks"
    left = f" ({summary['sources_left_out']} left out: not every method has them)" * bool(summary["sources_left_out"])
    lines = [
        f"{len(summary['methods'])} methods, {pairs} pairs, {summary['sources']} sources{left}",
        f"each rater: {each}, {plan.deal.practice} for practice",
        "",
        f"How often a win rate of {plan.difference:g} is told from one half, simulated for one pair and criterion:",
        "raters  answers  settled",
        *(f"{one.raters:6}  {one.answers:7}  {one.settled:7.0%}" for one in powers),
    ]
    own = next(one for one in powers if one.raters == plan.raters)
    enough = next((one.raters for one in powers if one.settled >= ENOUGH), None)
    if own.settled >= ENOUGH:
        lines.append(f"{plan.raters} raters are enough.")
    elif enough is not None:
        lines.append(
            f"warning: {plan.raters} raters cannot settle it ({own.settled:.0%}, under {ENOUGH:.0%}); "
            f"{enough} would: --raters {enough}"
        )
    else:
        lines.append(
            f"warning: {plan.raters} raters cannot settle it ({own.settled:.0%}, under {ENOUGH:.0%}), nor can "
            f"{powers[-1].raters}: more sources, more --comparisons, fewer pairs (--against), or a larger --difference"
        )
    return "\n".join([*lines, "", f"-> {summary['folder']}; next: vilex study serve {summary['folder']}"])
