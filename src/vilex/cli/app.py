"""The command line: parses, calls the library, prints."""

import sys
import warnings

import typer

from vilex.cli.draw import generate, reconstruct
from vilex.cli.encode import encode
from vilex.cli.evaluate import app as eval_app
from vilex.cli.info import info
from vilex.cli.options import errors
from vilex.cli.publish import export, push
from vilex.cli.train import train
from vilex.errors import InputError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Images as words.")
app.add_typer(eval_app, name="eval")
app.command()(generate)
app.command()(reconstruct)
app.command()(export)
app.command()(push)
app.command()(encode)
app.command()(train)
app.command()(info)


def main() -> None:
    """Entry point: a user's error is one line and exit status 2."""
    warnings.showwarning = lambda message, *_: errors.print(f"warning: {message}", markup=False)
    try:
        app()
    except InputError as error:
        errors.print(f"error: {error}", markup=False)
        sys.exit(2)
