"""What `--help` shows is what was written: no bracket of it is taken for a colour."""

from collections.abc import Iterator

import typer
from rich.text import Text

from vilex.cli.app import app


def helps(command, name: str = "vilex") -> Iterator[tuple[str, str]]:
    """Every text that a command and those below it show: where, and the text."""
    yield name, command.help or ""
    for parameter in command.params:
        yield f"{name} {parameter.name}", getattr(parameter, "help", None) or ""
    for below, one in getattr(command, "commands", {}).items():
        yield from helps(one, f"{name} {below}")


def test_help_shows_every_bracket():
    texts = dict(helps(typer.main.get_command(app)))
    assert "tokens.safetensors#" in texts["vilex generate image"]
    assert {name: text for name, text in texts.items() if Text.from_markup(text).plain != text} == {}
