"""`vilex understand convert`: a published set in the one form of example."""

from pathlib import Path
from typing import Annotated

import typer

from vilex.cli.options import Json, Overwrite, Quiet, print_summary
from vilex.errors import InputError


def convert(
    task: Annotated[str, typer.Argument(help="Whose files they are: cococap, vqav2, refcoco, ...")],
    files: Annotated[list[Path], typer.Argument(help="Annotations as published, in the order of the task's page.")],
    images: Annotated[Path, typer.Option(help="Folder of the pictures; those of a table are written there.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File of JSON lines.")],
    split: Annotated[str, typer.Option(help="Which part, where a file holds several.")] = "",
    language: Annotated[str, typer.Option(help="Of captions that come in several.")] = "en",
    codec: Annotated[
        str | None,
        typer.Option(
            help="Of masks: vae-oid.npz for a published PaliGemma, a folder, or shipped; none leaves words out."
        ),
    ] = None,
    without: Annotated[
        list[Path] | None,
        typer.Option(help="A tested split, converted before; its pictures are taken out. Repeatable."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder to name pictures by; -o's own if they lie below it, else theirs.")
    ] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out examples without their picture.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a published set as JSON lines that train, eval and sweep read."""
    from dataclasses import asdict

    from vilex.cli.manifest import check_file
    from vilex.understand.convert import convert as write
    from vilex.understand.tasks.registry import find_task
    from vilex.understand.tasks.task import Published

    found = find_task(task)
    if found.metric == "segmentation" and codec is None:
        raise InputError(
            f"--codec: {task} is answered by words of masks; give vae-oid.npz for a published PaliGemma, shipped (or a "
            "folder of `vilex understand masks`) for models trained with it, none to leave the words out"
        )
    check_file(out, overwrite)
    whose = "" if codec in (None, "none") else str(codec)
    source = Published(tuple(files), images, split, language, whose)
    made = write(found, source, out, root, without or (), skip_missing)
    lines = [f"{made.examples} examples of {made.pictures} pictures, {made.suffixes} suffixes -> {out}"]
    if without:
        lines.append(f"{made.taken_out} examples taken out, whose pictures are tested")
    if made.missing:
        lines.append(f"{made.missing} examples left out, whose picture is missing")
    if made.root.absolute() != out.parent.absolute():
        lines.append(f'pictures are relative to another folder: data.root = "{made.root}", or --root {made.root}')
    summary = {"file": str(out), "task": task, **asdict(made), "root": str(made.root)}
    print_summary(summary, "\n".join(lines), quiet, as_json)
