"""`vilex train`: what is typed and what stands in a file, and what is printed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vilex.cli.app import app

FILE = '[model]\nbase = "nano"\ntower = "t"\n[run]\nsteps = 1\n[optim]\nwarmup_steps = 0\n[data]\n'
PIPE = "pipe:cat 0.tar"


@pytest.mark.parametrize(
    ("file", "typed", "allowed"),
    [
        ('path = "images"', [f"data.path={PIPE}"], True),
        ('path = "images"', [f"data.validation={PIPE}"], True),
        ("", [f'data.sources=[{{path = "{PIPE}"}}]'], True),
        (f'path = "{PIPE}"', [], False),
        (f'path = "{PIPE}"\nallow_pipe = true', [], True),
        ('path = "pipe:rm 1.tar"', [f"data.validation={PIPE}"], False),
    ],
)
def test_shell_commands_of_a_file_are_allowed_by_it_and_typed_ones_by_being_typed(
    tmp_path, monkeypatch, file, typed, allowed
):
    (tmp_path / "run.toml").write_text(FILE + file)
    found = []
    monkeypatch.setattr("vilex.train.loop.train", lambda settings, *_: found.append(settings.data))
    said = CliRunner().invoke(app, ["train", str(tmp_path / "run.toml"), *typed, "--quiet"])
    assert said.exit_code == 0, said.exception
    assert all(source.allow_pipe == allowed for source in found[0].all_sources)


@pytest.mark.parametrize(("flag", "quiet"), [("--json", True), ("--quiet", True), (None, False)])
def test_the_end_of_a_run_is_json_a_line_or_nothing(tmp_path, monkeypatch, flag, quiet):
    (tmp_path / "run.toml").write_text(FILE + 'path = "images"')
    asked = []

    def run(settings, silent, accept):
        asked.append(silent)
        return Path("run/encoder")

    monkeypatch.setattr("vilex.train.loop.train", run)
    said = CliRunner().invoke(app, ["train", str(tmp_path / "run.toml"), *([flag] if flag else [])])
    assert said.exit_code == 0 and asked == [quiet]
    if flag == "--json":
        assert json.loads(said.stdout) == {"encoder": "run/encoder"}
    else:
        assert said.stdout == ("" if flag else "trained encoder -> run/encoder\n")
