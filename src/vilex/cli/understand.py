"""`vilex understand`: the eyes in a vision-language model: keep features, train, answer a file, answer a question."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vilex.cli.options import Device, Json, Overwrite, Quiet, print_summary, progress_bar, refuse
from vilex.cli.understand_convert import convert
from vilex.cli.understand_masks import masks
from vilex.errors import InputError
from vilex.extras import needs

if TYPE_CHECKING:
    from vilex.understand.config import TransferConfig

app = typer.Typer(no_args_is_help=True, help="The eyes in a vision-language model.")
for command in (convert, masks):
    app.command()(command)

Config = Annotated[Path, typer.Argument(help="TOML file.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="section.key=value")]
Vlm = Annotated[Path, typer.Argument(help="A trained model's folder, RUN/vlm.")]
Beams = Annotated[int, typer.Option(min=1, max=64, help="Of a beam search; 1 is greedy.")]
NewTokens = Annotated[int, typer.Option(min=1, max=8192, help="Longest answer.")]


@app.command()
def cache(config: Config, overrides: Overrides = None, quiet: Quiet = False, as_json: Json = False) -> None:
    """Keep the features of all pictures of a run on disk; the same command goes on after a stop."""
    import torch

    settings = _settings(config, overrides)
    if not settings.features.cache:
        raise InputError("config: features.cache is empty; name the folder that keeps features")
    from vilex.understand.cache import FeatureCache
    from vilex.understand.samples import pictures_of
    from vilex.understand.transfer import read_training, read_validation
    from vilex.understand.vlm_folder import make_features

    features = make_features(settings.model.base, settings.model.encoder, settings.features)
    device = _device(settings.run.device)
    features.to(device, getattr(torch, settings.features.dtype))
    pictures = list(dict.fromkeys(pictures_of([*read_training(settings), *read_validation(settings)])))
    kept = FeatureCache(Path(settings.features.cache), features, getattr(torch, settings.features.cache_dtype))
    with progress_bar("features", quiet) as move:
        bad = kept.fill(pictures, features, done=lambda count: move(count, len(pictures)))
    summary = {"folder": str(kept.folder), "pictures": len(kept), "refused": bad}
    print_summary(summary, f"{len(kept)} pictures -> {kept.folder}", quiet, as_json)
    refuse(bad)


@app.command()
def train(
    config: Config,
    overrides: Overrides = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(help="A setting, as run.epochs, that may differ from the one the run began with; repeatable."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train a language model to answer over frozen features, or go on training."""
    settings = _settings(config, overrides)
    with needs("understand"):
        from vilex.understand.transfer_loop import transfer

    folder = transfer(settings, quiet, accept or ())
    if not quiet and os.environ.get("RANK", "0") == "0":
        print(f"trained model -> {folder}")


@app.command("eval")
def evaluate(
    vlm: Vlm,
    data: Annotated[Path, typer.Argument(help="JSON lines: image, prefix, suffix or references, id.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File for the answers, JSON lines.")] = Path("answers.jsonl"),
    task: Annotated[
        str | None, typer.Option(help="Score as this task, cococap or vqav2 say; else only matches.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that images are relative to, if not the file's.")] = None,
    beams: Beams = 1,
    max_new_tokens: NewTokens = 32,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Questions answered at once.")] = 16,
    limit: Annotated[int, typer.Option(min=0, help="Only the first so many; 0 takes all.")] = 0,
    overwrite: Overwrite = False,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Answer a file of examples, and keep the answers beside what is true."""
    from vilex.cli.manifest import check_file
    from vilex.understand.answers import answer_all, share_of_matches, write_answers
    from vilex.understand.config import DecodeConfig
    from vilex.understand.examples import read_examples
    from vilex.understand.metrics.score import score
    from vilex.understand.samples import Gallery
    from vilex.understand.tasks.registry import find_task

    scored_as = find_task(task) if task else None
    check_file(out, overwrite)
    examples = read_examples(data, root)
    examples = examples[:limit] if limit else examples
    model = _load(vlm, device)
    refused: list[str] = []
    with progress_bar("answers", quiet) as move:
        answers = answer_all(
            model,
            examples,
            Gallery(model.features.views),
            DecodeConfig(beams, max_new_tokens),
            batch_size,
            refused,
            move,
        )
    write_answers(out, answers)
    match, scores = share_of_matches(answers), dict[str, float]()
    if scored_as and answers:
        said = {one.id: one.answer for one in answers}
        scores = score(scored_as, said, [one for one in examples if one.id in said])
    summary = {"answers": len(answers), "match": match, "scores": scores, "file": str(out), "refused": refused}
    lines = [f"{name}: {value:.4g}" for name, value in scores.items()]
    lines.append(f"{len(answers)} answers, {100 * match:.1f}% match a truth -> {out}")
    print_summary(summary, "\n".join(lines), quiet, as_json)
    refuse(refused)


@app.command()
def sweep(
    config: Annotated[Path, typer.Argument(help="TOML file of the sweep.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of all runs and the table.")] = Path("sweep"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train every setting of a grid with every encoder, and choose on validation; goes on after a stop."""
    from vilex.train.toml import load_toml

    with needs("understand"):
        from vilex.understand.sweep import Sweep, run_sweep

    table = run_sweep(load_toml(Sweep, config), out, quiet or as_json)
    text = "\n".join(f"{name or 'own'}: {' '.join(one['settings'])}" for name, one in table["best"].items())
    print_summary(table, f"{text}\n{len(table['runs'])} runs -> {out / 'sweep.md'}", quiet, as_json)


@app.command()
def ask(
    vlm: Vlm,
    image: Annotated[Path, typer.Argument(help="A picture.")],
    question: Annotated[str, typer.Argument(help="The prefix, as it was trained: `answer en what is this?`.")],
    beams: Beams = 1,
    max_new_tokens: NewTokens = 32,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Answer one question about one picture."""
    from vilex import checks
    from vilex.pictures.load import load_image

    prefix = checks.text(question, "question")
    picture = load_image(image)
    (said,) = _load(vlm, device).answer([picture], [prefix], max_new_tokens, beams)
    print_summary({"image": str(image), "prefix": prefix, "answer": said}, said, quiet, as_json)


def _settings(config: Path, overrides: list[str] | None) -> "TransferConfig":
    from vilex.train.toml import load_toml
    from vilex.understand.config import TransferConfig

    settings = load_toml(TransferConfig, config, overrides or [])
    settings.check()
    return settings


def _device(name: str) -> Any:
    import torch

    from vilex.device import check_device

    if name == "auto":
        return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    return check_device(name, "run.device")


def _load(folder: Path, device: str) -> Any:
    from vilex.device import check_device
    from vilex.understand.vlm_folder import load_vlm

    where = check_device(device, "--device")
    model = load_vlm(folder).to(where)
    model.features.to(where)
    return model
