"""The command line's reference, from the commands themselves."""

from typing import Any

import typer

from vilex.cli.app import app

HEAD = "| | default | |\n| --- | --- | --- |\n"


def commands() -> str:
    """Every command: its first sentence, how it is written, its arguments and options."""
    return "\n\n".join(_pages(typer.main.get_command(app), "vilex"))


def _pages(command: Any, name: str) -> list[str]:
    if hasattr(command, "commands"):
        return [page for inner, below in command.commands.items() for page in _pages(below, f"{name} {inner}")]
    written = " ".join([name, *(_written(one) for one in command.params if one.param_type_name == "argument")])
    rows = "".join(_row(one) for one in command.params if not one.hidden)
    return [f"## {name}\n\n{command.help}\n\n```sh\n{written} [OPTIONS]\n```\n\n{HEAD}{rows}"]


def _written(argument: Any) -> str:
    shown = f"{argument.name.upper()}{'...' if argument.nargs == -1 else ''}"
    return shown if argument.required else f"[{shown}]"


def _row(one: Any) -> str:
    if one.param_type_name == "argument":
        names, default = f"`{one.name.upper()}`", "" if one.required else _shown(one.default)
    else:
        names, default = ", ".join(f"`{option}`" for option in one.opts), _shown(one.default)
    meaning = (one.help or "").replace("|", "\\|").replace("<", "&lt;").replace("[", "&#91;")
    return f"| {names} | {default} | {meaning} |\n"


def _shown(value: Any) -> str:
    if value is None or value is False or value == "":
        return ""
    return f"`{' '.join(map(str, value))}`" if isinstance(value, tuple) else f"`{value}`"
