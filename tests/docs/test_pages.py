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


def cell(table, title, column):
    """A number of docs/results.md: the mean in a row's column."""
    line = next(line for line in table.splitlines() if line.startswith(f"| {title} |"))
    return float(line.split(" | ")[column].split(" ")[0])


def test_numbers_of_comparisons_are_those_of_the_results():
    results = (ROOT / "docs" / "results.md").read_text()
    close = {n: cell(results, f"brief {n}", 1) for n in ("ip-adapter", "vilex, 16", "vilex, 75")}
    titles = ("words alone", "4 tokens, TFG 3", "16 tokens, TFG 3", "textual-inversion", "dreambooth")
    like = {n: cell(results, n, 1) for n in titles}
    prompt = {n: cell(results, n, 2) for n in (*titles, "16 tokens, TFG 6", "16 tokens, TFG 12")}
    four, sixteen, inversion, booth = titles[1], titles[2], titles[3], titles[4]
    said = {
        "coming-from.md": [
            f"(distance {close['ip-adapter']:.3f} against {close['vilex, 16']:.3f})",
            f"closer than both ({close['vilex, 75']:.3f})",
            f"follows the prompt in {prompt[inversion]:.2f} of the pictures",
            f"(likeness {like[inversion]:.3f}, the words alone {like['words alone']:.3f}), "
            f"after {cell(results, inversion, 3):.0f} seconds",
            f"follow it in {prompt[four]:.2f} at a likeness of {like[four]:.3f}",
            f"({like[booth]:.3f} and {like[four]:.3f})",
            f"({prompt[booth]:.2f} and {prompt[four]:.2f}), and takes {cell(results, booth, 3):.0f} seconds",
        ],
        "troubleshooting.md": [
            f"in {prompt[four]:.2f} of the pictures, 16 tokens in {prompt[sixteen]:.2f}, at a likeness to the subject "
            f"of {like[four]:.3f} and {like[sixteen]:.3f} (",
            f"met in {prompt[sixteen]:.2f} at 3 (plain guidance), {prompt['16 tokens, TFG 6']:.2f} at 6, "
            f"{prompt['16 tokens, TFG 12']:.2f} at 12",
        ],
    }
    pages = {name: " ".join((ROOT / "docs" / name).read_text().split()) for name in said}
    missing = [f"{name}: {phrase}" for name, phrases in said.items() for phrase in phrases if phrase not in pages[name]]
    assert not missing, "docs/results.md has other numbers; read these sentences again: " + "; ".join(missing)


def test_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {vilex.__version__}\n" in citation and "arXiv:2412.06774" in citation
    assert f"this is {vilex.__version__}" in (ROOT / "CHANGELOG.md").read_text().replace("all of ", "")


def said(output):
    """A cell's output as text, without its pictures, whose base64 may spell anything."""
    data = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
    return json.dumps({**output, "data": data})


def test_notebooks_are_light():
    for path in (ROOT / "docs" / "notebooks").glob("*.ipynb"):
        assert path.stat().st_size < 250_000
        outputs = [one for cell in json.loads(path.read_text())["cells"] for one in cell.get("outputs", [])]
        assert not any("/tmp" in said(one) or one.get("name") == "stderr" for one in outputs), path
