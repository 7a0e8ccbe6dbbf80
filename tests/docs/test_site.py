"""The site: built strictly, whole, asking nothing of other servers; its mistakes end the build."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = (
    "README.md", "mkdocs.yml", "pyproject.toml", "docs", "recipes", "integrations", "tools", "src", "configs",
    "examples", "benchmarks", "LICENSE-WEIGHTS", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff",
)  # fmt: skip
BROKEN = ("no-such-page.md", "no-such-heading", "images/none.png", "lost.md")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of the sources with four mistakes, built strictly: mkdocs writes the site all the same, and then fails."""
    folder = tmp_path_factory.mktemp("site")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "models"))
        elif (ROOT / name).is_file():
            shutil.copy(ROOT / name, folder / name)
    with (folder / "docs" / "guide.md").open("a", encoding="utf-8") as page:
        page.write("\n[a](no-such-page.md) [b](models.md#no-such-heading) ![c](images/none.png)\n")
    (folder / "docs" / "lost.md").write_text("# In no navigation\n")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder / "out")]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    return folder / "out", done


@pytest.fixture(scope="module")
def site(built):
    return built[0]


class Requests(HTMLParser):
    """Addresses that a browser asks for by itself: not those of links to click on."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        wanted = [values.get("src"), values.get("srcset"), values.get("poster"), values.get("data")]
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            wanted.append(values.get("href"))
        self.found += [one for one in wanted if one]


def test_nothing_is_asked_of_other_servers(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        reader = Requests()
        reader.feed(page.read_text(encoding="utf-8"))
        assert len(reader.found) > 5
        assert not [one for one in reader.found if re.match(r"(https?:)?//", one)], page
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import\s*)[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_pages_of_the_repository_are_pages_of_the_site(site):
    start = (site / "index.html").read_text(encoding="utf-8")
    assert 'src="images/demo-tokens.png"' in start and 'href="recipes/nano/"' in start
    assert (site / "images" / "demo-tokens.png").is_file() and (site / "LICENSE-WEIGHTS").is_file()
    assert (site / "recipes" / "nano" / "index.html").is_file()


def test_every_room_and_every_public_name_of_vilex_is_in_the_reference(site):
    index = (site / "api" / "index.html").read_text(encoding="utf-8")
    targets = re.findall(r'<a [^>]*href="([\w-]+)/#([\w.]+)"[^>]*><code>', index)
    import vilex

    assert {name.rpartition(".")[2] for _, name in targets} == set(vilex.__all__)
    for page, name in targets:
        assert f'id="{name}"' in (site / "api" / page / "index.html").read_text(encoding="utf-8")
    found = (ROOT / "src" / "vilex").iterdir()
    rooms = {path.stem for path in found if path.suffix == ".py" or (path / "__init__.py").is_file()}
    rooms -= {"__init__", "__main__", "cli"}
    assert rooms <= {path.name for path in (site / "api").iterdir()}


def test_what_is_generated_stands_in_its_page(site):
    settings = (site / "configuration" / "index.html").read_text(encoding="utf-8")
    assert "<code>optim.warmup_steps</code>" in settings and "<code>measure.counts</code>" in settings
    commands = (site / "commands" / "index.html").read_text(encoding="utf-8")
    assert "<code>--overwrite</code>" in commands
    assert not [page for page in site.rglob("*.html") if "&lt;!-- " in page.read_text(encoding="utf-8")]


def test_mistakes_end_the_build_and_are_named_and_nothing_else_is(built):
    _, done = built
    said = (done.stdout + done.stderr).splitlines()
    warnings = [i for i, line in enumerate(said) if line.startswith("WARNING")]
    assert done.returncode != 0 and any("Aborted with 4 warnings in strict mode" in line for line in said), said
    assert len(warnings) == len(BROKEN)
    for name in BROKEN:
        assert any(name in " ".join(said[i : i + 3]) for i in warnings), (name, said)
