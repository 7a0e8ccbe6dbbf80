"""Notebooks run from their first cell to their last, as somebody who opens them would do; training with fewer steps."""

import sys
from pathlib import Path

import nbformat
import pytest

from tools.docs.notebooks import FOLDER, as_a_terminal, notebook_page, plain, run

SHORTER = {"STEPS = 300": "STEPS = 2", '("flags", 400)': '("flags", 32)', '("held-out", 12)': '("held-out", 4)'}


def test_there_are_three():
    assert [path.stem for path in sorted(FOLDER.glob("*.ipynb"))] == ["prompts", "start", "train"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["start", "prompts", "train"])
def test_it_runs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    kept = [len(cell.get("outputs", [])) for cell in notebook.cells]
    text = "\n".join(cell.source for cell in notebook.cells)
    for cell in notebook.cells:
        cell.source = cell.source.replace("steps=16", "steps=2").replace("steps=12", "steps=2")
        for long, short in SHORTER.items():
            assert name != "train" or text.count(long) == 1
            cell.source = cell.source.replace(long, short)
    done = plain(run(notebook, tmp_path), tmp_path)
    assert [len(cell.get("outputs", [])) for cell in done.cells] == kept  # each cell shows as much as the kept one
    if name == "train":
        assert (tmp_path / "docs" / "notebooks" / "run" / "encoder" / "model.safetensors").is_file()


def test_a_notebook_is_a_page_with_its_pictures(tmp_path):
    page = notebook_page(FOLDER / "start.ipynb")
    text = page.pop("start.md")
    assert text.startswith("# Notebook: start") and "(start.ipynb){" in text
    assert 'lexicon = VisualLexicon.from_pretrained("nano")' in text and "torch.Size([3, 75, 192])" in text
    assert page and all(f"({name})" in text and content[:2] == b"\xff\xd8" for name, content in page.items())


def test_of_a_progress_bar_its_last_state_is_kept():
    printed = "found\r\n\x1b[?25l\r\x1b[2Ktraining 1/2\r\x1b[2Ktraining \x1b[90m==\x1b[0m 2/2\r\n\x1b[?25hdone\n"
    assert as_a_terminal(printed) == "found\ntraining == 2/2\ndone\n"
