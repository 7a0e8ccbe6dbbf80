"""The family that docs/adding-a-family.md shows is the one there is."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_file_on_the_page_is_the_familys_own():
    page = (ROOT / "docs" / "adding-a-family.md").read_text(encoding="utf-8")
    shown = page.split("```python\n")[1].split("```")[0]
    assert shown == (ROOT / "src" / "vilex" / "t2i" / "pixart_sigma.py").read_text(encoding="utf-8")


def test_what_the_page_names_is_there():
    page = (ROOT / "docs" / "adding-a-family.md").read_text(encoding="utf-8")
    files = {word.strip("`,.;:") for word in page.split() if word.strip("`,.;:").endswith(".py")}
    known = {file for file in files if "NAME" not in file}
    for file in known:
        assert any((ROOT / base / file).is_file() for base in ("", "src/vilex")), file
    assert len(known) > 5
