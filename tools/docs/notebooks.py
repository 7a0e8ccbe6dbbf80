"""Notebooks: to pages of the site with their light outputs, and anew by the code as it is.

    python -m tools.docs.notebooks          # runs docs/notebooks/*.ipynb in place, and keeps what their cells show

Tests run them too (tests/docs/test_notebooks.py), with fewer steps.
"""

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

from tools.docs.pages import ROOT

FOLDER = ROOT / "docs" / "notebooks"


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
            if "image/png" in data:
                name = f"{path.stem}-{number}.png"
                files[name] = base64.b64decode(data["image/png"])
                cells.append(f"![What the cell shows]({name})")
            elif text := "".join(output.get("text") or data.get("text/plain") or ""):
                cells.append(f"```text\n{text.rstrip()}\n```")
    cells.insert(1, f"[The notebook as a file]({path.name}){{ .md-button download }}")
    return {f"{path.stem}.md": "\n\n".join(cells) + "\n", **files}


def run(notebook: Any, folder: Path) -> Any:
    """Run a notebook (of nbformat) from its first cell to its last in a folder; its outputs are then in it.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    from nbclient import NotebookClient

    return NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(folder)}}).execute()


def plain(notebook: Any) -> Any:
    """What of a notebook is kept: its cells and what people look at; no times, no machine, no progress bars."""
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
            for output in cell.outputs:
                if output.output_type != "stream":
                    output.metadata = {}
                if output.output_type == "execute_result":
                    output.execution_count = None
    return notebook


def main() -> None:
    """Run every notebook here, and keep what its cells show."""
    import nbformat

    for path in sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            done = plain(run(nbformat.read(path, as_version=4), Path(folder)))  # type: ignore[no-untyped-call]
        nbformat.write(done, path)  # type: ignore[no-untyped-call]
        print(path)


if __name__ == "__main__":
    main()
