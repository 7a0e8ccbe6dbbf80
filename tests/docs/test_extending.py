"""The example of docs/extending.md, as it stands there."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_row_of_an_evaluation(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = [
        one for one in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if "evaluate_reconstruction" in one
    ]
    shutil.copytree(ROOT / "examples" / "images", tmp_path / "held-out")
    Image.open(tmp_path / "held-out" / "dog.png").rotate(90).save(tmp_path / "held-out" / "turned.png")
    monkeypatch.chdir(tmp_path)
    place = {}
    exec(code.replace("captions=()", "captions=(), steps=2"), place)
    rows = place["results"]["rows"]
    assert rows["sources"]["squared error"]["mean"] == 0 < rows["4 tokens"]["squared error"]["mean"]
