"""`vilex app`: the browser demo."""

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from vilex.cli.models import Checkpoint, Lora, Models, Quantize
from vilex.cli.options import Base, Device, Dtype, Model, Offload, Quiet, errors
from vilex.errors import InputError

PASSWORD = "VILEX_APP_PASSWORD"


def app(
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for every machine of the network.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 7860,
    auth: Annotated[
        str | None, typer.Option(metavar="USER", help=f"Ask for a login; the password from ${PASSWORD}, or a prompt.")
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Also under a public address, through a tunnel of Gradio's.")
    ] = (False),
    keep: Annotated[float, typer.Option(min=0.1, max=100_000, help="Minutes that visitors' files are kept.")] = 60,
    queue: Annotated[int, typer.Option(min=1, max=1000, help="Jobs that may wait before others are turned away.")] = 20,
    model: Model = "nano",
    t2i: Base = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    offload: Offload = None,
    quantize: Quantize = None,
    lora: Lora = None,
    checkpoint: Checkpoint = None,
    quiet: Quiet = False,
) -> None:
    """A page to try it in: re-create, compose, mix, explore."""
    from vilex.extras import needs

    with needs("app"):
        import gradio  # noqa: F401 (before the model is loaded)
    from vilex.app.limits import Limits
    from vilex.app.server import served
    from vilex.app.studio import Studio

    if auth is not None and not auth.strip():
        raise InputError("--auth: expected a user's name")
    login = None if auth is None else (auth.strip(), _password())
    models = Models(model, t2i, device, dtype, offload, quantize, lora, checkpoint)
    lexicon = models.load(quiet)
    about = without_paths(models.about(lexicon))
    studio = Studio(lexicon, about, Limits(waiting=queue, keep=60 * keep))
    with served(studio, host, port or None, login, share) as address, suppress(KeyboardInterrupt):
        if share and login is None:
            errors.print("warning: everybody who knows the public address can draw; --auth USER asks for a login")
        if not quiet:
            print(f"vilex app: {address}  (Ctrl-C ends it)", flush=True)
        threading.Event().wait()


def _password() -> str:
    """From the environment, or asked for."""
    password = os.environ.get(PASSWORD, "")
    if not password:
        if not sys.stdin.isatty():
            raise InputError(f"--auth: no terminal to ask for a password; give it as {PASSWORD}")
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if len(password) < 8:
        raise InputError(f"{PASSWORD}: expected a password of at least 8 letters")
    return password


def without_paths(about: dict[str, Any]) -> dict[str, Any]:
    """What visitors may know of the models: names, not where they lie on this machine."""

    def name(value: Any) -> Any:
        return Path(value).name if isinstance(value, str) and Path(value).exists() else value

    found = {key: name(value) if key in ("model", "base", "checkpoint") else value for key, value in about.items()}
    if "loras" in found:
        found["loras"] = [{**one, "file": name(one["file"])} for one in found["loras"]]
    return found
