"""`vilex understand eval`: a file of examples answered, scored, and shown."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vilex.cli.options import Device, Json, Overwrite, Quiet, print_summary, progress_bar, refuse
from vilex.errors import InputError

if TYPE_CHECKING:
    from vilex.understand.answers import Answer
    from vilex.understand.examples import Example
    from vilex.understand.mask_codec import MaskCodec
    from vilex.understand.tasks.task import Task

PREDICTIONS, SCORES, PAGE = "predictions.jsonl", "scores.json", "examples.html"

Vlm = Annotated[Path, typer.Argument(help="A trained model's folder, RUN/vlm.")]
Beams = Annotated[int, typer.Option(min=1, max=64, help="Of a beam search; 1 is greedy.")]
Codec = Annotated[str, typer.Option(help="Whose words masks are written in: vae-oid.npz, a folder, or shipped.")]
NewTokens = Annotated[int, typer.Option(min=1, max=8192, help="Longest answer.")]


def evaluate(
    vlm: Vlm,
    data: Annotated[Path, typer.Argument(help="JSON lines: image, prefix, suffix or references, id.")],
    out: Annotated[Path, typer.Option("-o", "--out", help=f"Folder for {PREDICTIONS}, {SCORES} and {PAGE}.")] = Path(
        "answers"
    ),
    task: Annotated[
        str | None, typer.Option(help="Score as this task, cococap or vqav2 say; else only matches.")
    ] = None,
    codec: Codec = "shipped",
    root: Annotated[Path | None, typer.Option(help="Folder that images are relative to, if not the file's.")] = None,
    beams: Beams = 1,
    max_new_tokens: NewTokens = 32,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Questions answered at once.")] = 16,
    limit: Annotated[int, typer.Option(min=0, help="Only the first so many; 0 takes all.")] = 0,
    examples: Annotated[
        int, typer.Option(min=0, max=1000, help="Answers on the page, half of them right; 0 writes none.")
    ] = 24,
    overwrite: Overwrite = False,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Answer a file of examples; keep the answers beside what is true, their scores, and a page of some."""
    from vilex.cli.manifest import check_file
    from vilex.understand.answers import answer_all, share_of_matches, write_answers
    from vilex.understand.config import DecodeConfig
    from vilex.understand.examples import read_examples
    from vilex.understand.mask_codec import load_codec
    from vilex.understand.metrics.score import check_scorable
    from vilex.understand.samples import Gallery
    from vilex.understand.tasks.registry import find_task

    scored_as = find_task(task) if task else None
    for name in (PREDICTIONS, SCORES, PAGE):
        check_file(out / name, overwrite)
    asked = read_examples(data, root)
    asked = asked[:limit] if limit else asked
    masks = load_codec(codec) if scored_as and scored_as.metric == "segmentation" else None
    if scored_as:
        check_scorable(scored_as, asked, masks)
    model = load_model(vlm, device)
    refused: list[str] = []
    decode = DecodeConfig(beams, max_new_tokens)
    with progress_bar("answers", quiet) as move:
        answers = answer_all(model, asked, Gallery(model.features.views), decode, batch_size, refused, move)
    for name in (SCORES, PAGE):  # of answers that are replaced
        (out / name).unlink(missing_ok=True)
    write_answers(out / PREDICTIONS, answers)
    match, scores = share_of_matches(answers), dict[str, float]()
    if answers:
        shown = f"{len(answers)} answers of {vlm} to {data.name}" + (f", as {task}" if task else "")
        scores = _score_and_show(out, shown, scored_as, asked, answers, masks, examples)
    summary: dict[str, Any] = {"answers": len(answers), "match": match, "scores": scores, "folder": str(out)}
    about = {"model": str(vlm), "data": str(data), "task": task, "beams": beams, "max_new_tokens": max_new_tokens}
    if masks:
        about |= {"codec": codec, "codec_digest": masks.digest()}
    _write_json(out / SCORES, {**about, **summary, "refused": len(refused)})
    lines = [f"{name}: {value:.4g}" for name, value in scores.items()]
    lines.append(f"{len(answers)} answers, {100 * match:.1f}% match a truth -> {out}")
    print_summary({**summary, "refused": refused}, "\n".join(lines), quiet, as_json)
    refuse(refused)


def _score_and_show(
    out: Path,
    title: str,
    task: "Task | None",
    asked: "list[Example]",
    answers: "list[Answer]",
    codec: "MaskCodec | None",
    shown: int,
) -> dict[str, float]:
    """The scores of answers; a page of some of them is written."""
    from vilex.understand.answer_page import write_page
    from vilex.understand.metrics.marks import marks_of
    from vilex.understand.metrics.score import score

    by_id = {one.id: one for one in asked}
    answered = [by_id[one.id] for one in answers]
    said = {one.id: one.answer for one in answers}
    scores = score(task, said, answered, codec) if task else {}
    if shown:
        marks = marks_of(task, [one.answer for one in answers], answered, codec)
        matches = {"match": 100 * sum(one.matches for one in answers) / len(answers)}
        write_page(out / PAGE, title, answered, answers, marks, scores or matches, shown)
    return scores


def _write_json(path: Path, content: dict[str, Any]) -> None:
    from vilex.paths import write_text

    try:
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give another folder with -o") from None


def load_model(folder: Path, device: str) -> Any:
    """A trained model on a device, with what it sees with."""
    from vilex.device import check_device
    from vilex.understand.vlm_folder import load_vlm

    where = check_device(device, "--device")
    model = load_vlm(folder).to(where)
    model.features.to(where)
    return model
