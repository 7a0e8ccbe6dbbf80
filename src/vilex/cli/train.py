"""`vilex train`: a run, or what it will take."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vilex.cli.options import Json, Quiet, print_summary
from vilex.extras import needs

if TYPE_CHECKING:
    from vilex.train.config import TrainConfig


def train(
    config: Annotated[Path, typer.Argument(help="TOML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print what the run will take, and stop.")] = False,
    processes: Annotated[int, typer.Option(min=1, help="Of the plan: devices that share each step.")] = 1,
    measure: Annotated[int, typer.Option(min=0, help="Of the plan: steps to time here, on random weights.")] = 2,
    accept: Annotated[
        list[str] | None,
        typer.Option(help="A setting, as data.path, that may differ from the one the run began with; repeatable."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train an encoder on a frozen text-to-image model, or go on training."""
    with needs("train"):
        from vilex.train.config import TrainConfig
        from vilex.train.toml import load_toml

    settings = _allowing_pipes(load_toml(TrainConfig, config, overrides or []), overrides or [])
    settings.check()
    if plan:
        _plan(settings, processes, measure, quiet, as_json)
        return
    with needs("train"):
        from vilex.train.loop import train as run

    folder = run(settings, quiet or as_json, accept or ())
    if os.environ.get("RANK", "0") == "0":
        print_summary({"encoder": str(folder)}, f"trained encoder -> {folder}", quiet, as_json)


def _allowing_pipes(settings: "TrainConfig", overrides: list[str]) -> "TrainConfig":
    """Shell commands that were typed here need no `data.allow_pipe`; those that stand in the file do."""
    data, typed = settings.data, "\n".join(overrides)
    pipes = [path for path in (*(one.path for one in data.all_sources), data.validation) if path.startswith("pipe:")]
    if pipes and all(path in typed for path in pipes):
        return replace(settings, data=replace(data, allow_pipe=True))
    return settings


def _plan(settings: Any, processes: int, measure: int, quiet: bool, as_json: bool) -> None:
    from dataclasses import asdict

    import torch

    with needs("train"):
        from vilex.plan.plan import describe, make_plan

    from vilex.device import check_device

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if settings.run.device != "auto":
        device = str(check_device(settings.run.device, "run.device"))
    made = make_plan(settings, processes, measure, device)
    text = "\n".join(f"{title:>10}  {line}" for title, line in describe(made).items())
    print_summary({**asdict(made), "peak": made.peak}, text, quiet, as_json)
