"""Tables made from code and from pyproject.toml: what they say is what is checked."""

import dataclasses
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest

from tools.docs import project
from tools.docs.commands import commands
from tools.docs.configuration import reference
from tools.docs.docstrings import as_markdown
from tools.docs.samplers import schedulers
from vilex.sample import SCHEDULERS
from vilex.settings import Names, Range
from vilex.train.config import TrainConfig

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Dish:
    """Something to eat."""

    name: str = ""  # what it is called


@dataclass(frozen=True)
class Cook:
    """Who cooks, and how."""

    # how much of it,
    # in grams
    salt: Annotated[float, Range(0, 5, "0 is none")] = 1.5
    style: Literal["plain", "rich"] = "plain"  # of the kitchen | table
    book: Annotated[str, Names.FILE] = "book"  # recipes
    hot: bool = True  # or cold


@dataclass(frozen=True)
class Kitchen:
    """A kitchen."""

    cook: Cook = field(default_factory=Cook)
    seats: tuple[Annotated[int, Range(1, 9)], ...] = (2, 4)  # at each table
    dishes: tuple[Dish, ...] = ()  # a course each


def test_a_setting_is_a_row_of_its_type_default_range_and_comment():
    text = reference(f"{__name__}.Kitchen")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows == [
        "| `seats` | list of whole number | `[2, 4]` | each 1 to 9 | at each table |",
        "| `dishes` | sections |  |  | a course each |",
        "| `cook.salt` | number | `1.5` | 0 to 5 (0 is none) | how much of it, in grams |",
        '| `cook.style` | text | `"plain"` | `plain`, `rich` | of the kitchen \\| table |',
        '| `cook.book` | a file or folder | `"book"` |  | recipes |',
        "| `cook.hot` | true or false | `true` |  | or cold |",
        '| `name` | text | `""` |  | what it is called |',
    ]
    assert re.findall("^### .*$", text, re.MULTILINE) == ["### At the top", "### [cook]", "### [[dishes]]"]


@dataclass(frozen=True)
class Mute:
    """A setting that says nothing."""

    word: str = ""


def test_a_setting_without_meaning_is_an_error():
    with pytest.raises(ValueError, match=r"^word: has no meaning; write a comment"):
        reference(f"{__name__}.Mute")


def test_every_setting_of_training_has_its_row():
    text = reference("vilex.train.config.TrainConfig")
    for section in dataclasses.fields(TrainConfig):
        for one in dataclasses.fields(getattr(TrainConfig(), section.name)):
            assert f"| `{section.name}.{one.name}` |" in text


def test_every_extra_has_its_row(monkeypatch, tmp_path):
    written = tomllib.loads((ROOT / "pyproject.toml").read_text())
    text = project.extras()
    for extra, purpose in written["tool"]["vilex"]["extras"].items():
        assert f"| `{extra}` | {purpose} |" in text
    assert "| tensorboard>=2.18, what `data` brings |" in text
    (tmp_path / "pyproject.toml").write_text('[project.optional-dependencies]\nnew = ["a"]\n[tool.vilex.extras]\n')
    monkeypatch.setattr(project, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="'new': say what it is for"):
        project.extras()


def test_every_scheduler_has_its_row():
    rows = [line.split(" | ") for line in schedulers().splitlines() if line.startswith("| `")]
    assert [row[0].strip("| `") for row in rows] == list(SCHEDULERS)
    assert {row[0].strip("| `"): row[2].strip("| ") for row in rows}["ddim"] == ""


def test_every_command_and_option_is_described():
    text = commands()
    for command in ("generate", "reconstruct", "encode", "train", "eval reconstruction", "export", "push", "info"):
        assert f"## vilex {command}\n" in text
    (known,) = set(re.findall(r"^\| `--scheduler` \| `dpm\+\+` \| (.*) \|$", text, re.MULTILINE))
    assert known.startswith(f"{', '.join(SCHEDULERS)}, or a diffusers class; ")
    assert "| `-o`, `--out` | `out` | Folder for pictures and manifest.json. |" in text
    assert not re.findall(r"^\| `[^|]+\| [^|]*\|  \|$", text, re.MULTILINE), "an option without help"


def test_docstrings_are_markdown():
    prose = 'A "<cat:16> in snow" and `<dog>`.\n\n    x <y\n\n>>> f("<cat>")\n1\n\n'
    assert as_markdown("kept[name][row]") == "kept[name]&#91;row]"
    assert as_markdown(prose + "Args:\n    a: as <b>.\nRaises:\n    E: no.") == (
        'A "&lt;cat:16> in snow" and `<dog>`.\n\n    x <y\n\n\n```python\nf("<cat>")\n```\n\n1\n\n'
        "Args:\n    a: as &lt;b>.\n\nRaises:\n    E: no."
    )
