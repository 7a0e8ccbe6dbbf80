"""Notebooks: to pages of the site with their light outputs, and anew by the code as it is.

    python -m tools.docs.notebooks [FILE ...]     # runs all of docs/notebooks in place, and keeps what their cells show

Tests run them too (tests/docs/test_notebooks.py), with fewer steps.
"""

import base64
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.docs.pages import ROOT

PLACE = Path("docs", "notebooks")
FOLDER = ROOT / PLACE
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def notebook_page(path: Path) -> dict[str, str | bytes]:
    """A notebook as files of its folder in the site: a Markdown page, and the pictures its cells show."""
    cells: list[str] = []
    files: dict[str, str | bytes] = {}
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            cells.append(source)
            continue
        cells.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/jpeg" in data:
                name = f"{path.stem}-{number}.jpg"
                files[name] = base64.b64decode(data["image/jpeg"])
                cells.append(f"![What the cell shows]({name})")
            elif text := "".join(output.get("text") or data.get("text/plain") or ""):
                cells.append(f"```text\n{text.rstrip()}\n```")
    cells.insert(1, f"[The notebook as a file]({path.name}){{ .md-button download }}")
    return {f"{path.stem}.md": "\n\n".join(cells) + "\n", **files}


def run(notebook: Any, folder: Path) -> Any:
    """Run a notebook (of nbformat) from its first cell to its last, in a folder with a copy of examples/ around it.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    from nbclient import NotebookClient

    place = folder / PLACE
    place.mkdir(parents=True)
    shutil.copytree(ROOT / "examples", folder / "examples")
    return NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(place)}}).execute()


def plain(notebook: Any, folder: Path) -> Any:
    """What of a notebook is kept: cells, words, pictures as JPEG; no times, and nothing of the folder it ran in."""
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = list(_shown(cell.outputs, f"{folder / PLACE}/"))
    return notebook


def _shown(outputs: list[Any], folder: str) -> Iterator[Any]:
    """A cell's outputs: what it printed as one, then what it shows."""
    if printed := as_a_terminal("".join(one.text for one in outputs if one.get("name") == "stdout")):
        yield {"output_type": "stream", "name": "stdout", "text": printed.replace(folder, "")}
    for one in outputs:
        if "data" in one:
            kind = "image/jpeg" if "image/jpeg" in one.data else "text/plain"
            yield {"output_type": "display_data", "metadata": {}, "data": {kind: one.data[kind]}}


def as_a_terminal(text: str) -> str:
    """What is left on a terminal in the end: no colours, of a progress bar its last state."""
    lines = _CONTROL.sub("", text.replace("\r\n", "\n")).split("\n")
    return "\n".join(line.rpartition("\r")[2] for line in lines)


def main() -> None:
    """Run every notebook here, and keep what its cells show."""
    import nbformat

    for path in [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
            done = nbformat.from_dict(plain(run(notebook, Path(folder)), Path(folder)))  # type: ignore[no-untyped-call]
        nbformat.write(done, path)  # type: ignore[no-untyped-call]
        print(path)


if __name__ == "__main__":
    main()
