"""The command line: parses, calls the library, prints."""

import io
import logging
import sys
import warnings
from typing import Annotated, cast

import typer

import vilex
from vilex.cli.demo import app as app_command
from vilex.cli.draw import generate, reconstruct
from vilex.cli.encode import encode
from vilex.cli.evaluate import app as eval_app
from vilex.cli.info import info
from vilex.cli.options import errors
from vilex.cli.publish import export, push
from vilex.cli.study import app as study_app
from vilex.cli.train import train
from vilex.cli.understand import app as understand_app
from vilex.errors import InputError, printable

# Who speaks of kernels that are not there, and of what is old, when diffusers finds torchao.
CHATTY = ("torchao", "bitsandbytes", "torch.utils._pytree", "diffusers.quantizers")
INTERRUPTED = 130  # exit status, as of a shell's command that Ctrl-C ended
UsageError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])  # of the click that typer brings

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Images as words.",
)
app.add_typer(eval_app, name="eval")
app.add_typer(study_app, name="study")
app.add_typer(understand_app, name="understand")
for command in (generate, reconstruct, app_command, export, push, encode, train, info):
    app.command()(command)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"vilex {vilex.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and stop.")
    ] = False,
) -> None:
    """Images as words."""


def main() -> None:
    """Entry point: a user's error is one line and exit status 2."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.showwarning = lambda message, *_: errors.print(f"warning: {printable(message)}", markup=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files are bytes, and not always UTF-8
    try:
        status = app(standalone_mode=False)
    except InputError as error:
        status = _refuse(str(error))
    except UsageError as error:
        message = error.format_message()
        status = _refuse(f"{message.rstrip('.')}; see --help") if message else 2  # help was printed instead
    except (typer.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    if status:
        sys.exit(status)


def _refuse(message: str) -> int:
    errors.print(f"error: {printable(message)}", markup=False)
    return 2
