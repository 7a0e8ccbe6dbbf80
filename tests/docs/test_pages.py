"""What pages say: commands that parse, Python that is the library's, tests that exist, errors that the code has."""

import ast
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
import typer

import vilex
from vilex.cli.app import UsageError, app

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/*/README.md"),
         *ROOT.glob("integrations/*/README.md")]  # fmt: skip
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\w+=\S+ )*(?:torchrun .*-m |srun .*-m |accelerate launch .*-m |! *)?vilex ")


def blocks(language):
    for page in PAGES:
        for kind, text in FENCE.findall(page.read_text(encoding="utf-8")):
            if kind == language:
                yield page.relative_to(ROOT), text


def commands():
    """Every `vilex ...` line of a shell block or of indented code, with its page."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shell = "\n".join(body for kind, body in FENCE.findall(text) if kind == "sh")
        indented = "\n".join(line[4:] for line in FENCE.sub("", text).splitlines() if line.startswith("    "))
        for line in (shell + "\n" + indented).replace("\\\n", " ").splitlines():
            if COMMAND.match(line) and "..." not in line:
                yield pytest.param(line[COMMAND.match(line).end() :], id=f"{page.name}: {line[:60]}")


@pytest.mark.parametrize("line", commands())
def test_commands_parse(line):
    words = shlex.split(re.split(r"\s#\s", line)[0])
    if words[0] == "--version":
        return
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words and words[0] in command.commands, words
        command = command.commands[words.pop(0)]
    try:
        command.make_context(command.name, list(words))
    except UsageError as error:
        pytest.fail(error.format_message())


@pytest.mark.parametrize(("page", "text"), [pytest.param(*one, id=str(one[0])) for one in blocks("python")])
def test_python_is_valid_and_imports_what_is_there(page, text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "vilex":
            module = importlib.import_module(node.module)
            assert all(hasattr(module, one.name) for one in node.names), ast.unparse(node)


def test_tests_that_are_named_are_there():
    named = [
        (page.name, path, name)
        for page in PAGES
        for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text(encoding="utf-8"))
    ]
    assert len(named) > 25
    for page, path, name in named:
        assert (ROOT / path).is_file(), f"{page}: {path}"
        assert not name or f"def {name}(" in (ROOT / path).read_text(), f"{page}: {path}::{name}"


def test_errors_that_are_quoted_are_the_codes_own():
    """Literal parts of each `error:` line, between what differs from case to case, stand in the sources."""
    literals = [
        node.value
        for path in (ROOT / "src" / "vilex").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    written = "\n".join(literals)
    lines = [line for _, text in blocks("text") for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) > 10
    for line in lines:
        for part in line.removeprefix("error: ").split("..."):
            assert part.strip(" :,") in written, f"{line}: {part!r}"


def test_costs_in_the_readme_are_those_of_the_table():
    rows = [
        line.split(" | ") for line in (ROOT / "docs" / "costs.md").read_text().splitlines() if line.startswith("| `")
    ]
    hours = {row[0].strip("| `"): row[-1].strip(" |") for row in rows}
    assert set(hours) == {path.stem for path in ROOT.glob("configs/*.toml")}
    text = " ".join((ROOT / "README.md").read_text().split())
    said = re.search(r"that is (\d+) hours of one GPU.*?, (\d+) hours of eight.*?, and (\d+) hours of 64", text)
    assert said.groups() == (hours["sd15-24gb"], hours["sd15-8gpu"], hours["sd15-paper"])


@pytest.mark.slow
def test_the_table_of_costs_is_what_a_plan_counts(tmp_path):
    from benchmarks.configs import CONFIGS, localised, row
    from vilex.plan.plan import make_plan
    from vilex.train.config import TrainConfig
    from vilex.train.toml import load_toml

    config = load_toml(TrainConfig, CONFIGS / "sd15-24gb.toml", ["data.path=images"])
    made = row("sd15-24gb", config.model.base, 24, make_plan(localised(config, tmp_path / "models"), 1))
    assert made in (ROOT / "docs" / "costs.md").read_text()


def test_numbers_of_comparisons_are_those_of_the_results():
    """Those of docs/coming-from.md and docs/troubleshooting.md, rounded, are in the tables of docs/results.md."""
    tables = (ROOT / "docs" / "results.md").read_text()

    def cell(title, column):
        line = next(line for line in tables.splitlines() if line.startswith(f"| {title} |"))
        return float(line.split(" | ")[column].split(" ")[0])

    brief = [cell(f"brief {name}", 1) for name in ("ip-adapter", "vilex, 16", "vilex, 75")]
    text = (ROOT / "docs" / "coming-from.md").read_text()
    assert "(distance {:.3f} against {:.3f})".format(*brief[:2]) in text and f"({brief[2]:.3f})" in text
    titles = ("words alone", "4 tokens, TFG 8", "16 tokens, TFG 8", "textual-inversion", "dreambooth")
    likeness = {name: cell(name, 1) for name in titles}
    prompt = {name: cell(name, 2) for name in (*likeness, "4 tokens, TFG 2", "4 tokens, TFG 4")}
    flat = " ".join(text.split())
    assert f"(likeness {likeness['textual-inversion']:.3f}, the words alone {likeness['words alone']:.3f})" in flat
    assert f"({likeness['dreambooth']:.3f} and {likeness['4 tokens, TFG 8']:.3f})" in flat
    assert f"({prompt['dreambooth']:.2f} and {prompt['4 tokens, TFG 8']:.2f})" in flat
    assert f"after {cell('textual-inversion', 3):.0f} seconds" in flat
    assert f"takes {cell('dreambooth', 3):.0f} seconds" in flat
    trouble = " ".join((ROOT / "docs" / "troubleshooting.md").read_text().split())
    assert (
        f"in {prompt['4 tokens, TFG 8']:.2f} of the pictures, 16 tokens in {prompt['16 tokens, TFG 8']:.2f}" in trouble
    )
    assert f"({likeness['4 tokens, TFG 8']:.3f} and {likeness['16 tokens, TFG 8']:.3f};" in trouble
    steps = [prompt[f"4 tokens, TFG {weight}"] for weight in (2, 4, 8)]
    assert "met in {:.2f} at 2 (plain guidance), {:.2f} at 4, {:.2f} at 8".format(*steps) in trouble


def test_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {vilex.__version__}\n" in citation and "arXiv:2412.06774" in citation
    assert f"this is {vilex.__version__}" in (ROOT / "CHANGELOG.md").read_text().replace("all of ", "")


def test_notebooks_are_light():
    for path in (ROOT / "docs" / "notebooks").glob("*.ipynb"):
        assert path.stat().st_size < 250_000
        outputs = [one for cell in json.loads(path.read_text())["cells"] for one in cell.get("outputs", [])]
        assert not any("/tmp" in json.dumps(one) or one.get("name") == "stderr" for one in outputs), path
