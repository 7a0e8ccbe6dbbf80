"""`vilex study ...`: people say which of two methods' pictures is closer to a source."""

import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from vilex.cli.manifest import check_file, check_folder
from vilex.cli.options import Device, Json, Overwrite, Quiet, print_summary
from vilex.cli.study_making import make, power
from vilex.extras import needs

app = typer.Typer(no_args_is_help=True, help="Ask people which of two methods' pictures is closer to a source.")

Folder = Annotated[Path, typer.Argument(help="The study's folder.")]
Number = Annotated[int, typer.Argument(min=1, help="The rater's number, as reports call it.")]

for command in (make, power):
    app.command()(command)


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
