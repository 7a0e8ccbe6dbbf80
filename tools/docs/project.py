"""Tables of pyproject.toml: what each extra is for, and what it brings."""

import re
import tomllib

from tools.docs.pages import ROOT


def extras() -> str:
    """A row an extra: its name, what it is for (`tool.vilex.extras`), and its packages.

    Raises:
        ValueError: an extra is not described.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    purposes = project["tool"]["vilex"]["extras"]
    rows = ["| extra | for | brings |", "| --- | --- | --- |"]
    for extra, requirements in project["project"]["optional-dependencies"].items():
        if extra not in purposes:
            raise ValueError(f"extra '{extra}': say what it is for in pyproject.toml, [tool.vilex.extras]")
        brings = ", ".join(_shown(one) for one in requirements)
        rows.append(f"| `{extra}` | {purposes[extra]} | {brings} |")
    return "\n".join(rows)


def _shown(requirement: str) -> str:
    inner = re.fullmatch(r"vilex\[(.+)\]", requirement)
    return "what " + ", ".join(f"`{one}`" for one in inner[1].split(",")) + " brings" if inner else requirement
