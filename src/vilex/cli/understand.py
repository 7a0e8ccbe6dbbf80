"""`vilex understand`: the eyes in a vision-language model: keep features, train, answer a file, answer a question."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vilex.cli.options import Device, Json, Quiet, print_summary, progress_bar, refuse
from vilex.cli.understand_convert import convert
from vilex.cli.understand_eval import Beams, Codec, NewTokens, Vlm, evaluate, load_model
from vilex.cli.understand_language import language
from vilex.cli.understand_masks import masks
from vilex.errors import InputError
from vilex.extras import needs

if TYPE_CHECKING:
    from vilex.understand.config import TransferConfig

app = typer.Typer(no_args_is_help=True, help="The eyes in a vision-language model.")
for command in (convert, language, masks):
    app.command()(command)
app.command("eval")(evaluate)

Config = Annotated[Path, typer.Argument(help="TOML file.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="section.key=value")]


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
    plan: Annotated[bool, typer.Option("--plan", help="Print what the run will take, and stop.")] = False,
    processes: Annotated[int, typer.Option(min=1, help="Of the plan: devices that share each step.")] = 1,
    measure: Annotated[
        int, typer.Option(min=0, help="Of the plan: steps to time here, on random weights; 0 asks the run's own log.")
    ] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a language model to answer over frozen features, or go on training."""
    settings = _settings(config, overrides)
    if plan:
        _plan(settings, processes, measure, quiet, as_json)
        return
    with needs("understand"):
        from vilex.understand.transfer_loop import transfer

    folder = transfer(settings, quiet or as_json, accept or ())
    if os.environ.get("RANK", "0") == "0":
        print_summary({"model": str(folder)}, f"trained model -> {folder}", quiet, as_json)


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
    mask: Annotated[
        Path | None, typer.Option(help="PNG for the mask that the answer draws, white inside, of the picture's size.")
    ] = None,
    codec: Codec = "shipped",
    beams: Beams = 1,
    max_new_tokens: NewTokens = 32,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Answer one question about one picture."""
    from vilex import checks
    from vilex.cli.manifest import check_file
    from vilex.pictures.load import load_image

    prefix = checks.text(question, "question")
    picture = load_image(image)
    if mask:
        check_file(mask)
    (said,) = load_model(vlm, device).answer([picture], [prefix], max_new_tokens, beams)
    summary = {"image": str(image), "prefix": prefix, "answer": said}
    if mask:
        _draw_mask(mask, codec, said, picture.size)
        summary["mask"] = str(mask)
    print_summary(summary, f"{said}\nmask -> {mask}" if mask else said, quiet, as_json)


def _draw_mask(path: Path, codec: str, said: str, size: tuple[int, int]) -> None:
    """Write the mask that an answer draws; `size` is the picture's width and height."""
    from PIL import Image

    from vilex.paths import replacing
    from vilex.understand.mask_codec import load_codec
    from vilex.understand.masks import words_to_masks

    (drawn,) = words_to_masks(load_codec(codec), [said], [(size[1], size[0])])
    if drawn is None:
        raise InputError(f"{said!r:.200}: draws no mask; ask a model that was trained on masks, by an expression alone")
    with replacing(path) as aside:
        Image.fromarray(drawn).save(aside, "PNG")


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


def _plan(settings: "TransferConfig", processes: int, measure: int, quiet: bool, as_json: bool) -> None:
    from dataclasses import asdict

    with needs("understand"):
        from vilex.understand.vlm_plan import describe_transfer, plan_transfer

    made = plan_transfer(settings, processes, measure, str(_device(settings.run.device)) if measure else "cpu")
    text = "\n".join(f"{title:>10}  {line}" for title, line in describe_transfer(made).items())
    print_summary({**asdict(made), "peak": made.peak}, text, quiet, as_json)
