"""The site: built strictly, whole, asking nothing of other servers; its mistakes end the build."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("README.md", "mkdocs.yml", "pyproject.toml", "docs", "recipes", "integrations", "tools", "src", "configs")
SOURCES += ("LICENSE-WEIGHTS", "examples", "benchmarks", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def build(sources, out):
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    return subprocess.run(words, cwd=sources, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT, out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


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


@pytest.mark.slow
def test_broken_links_and_forgotten_pages_end_the_build_and_are_named(tmp_path):
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "models"))
        elif (ROOT / name).is_file():
            shutil.copy(ROOT / name, tmp_path / name)
    with (tmp_path / "docs" / "guide.md").open("a", encoding="utf-8") as page:
        page.write("\n[a](no-such-page.md) [b](models.md#no-such-heading) ![c](images/none.png)\n")
    (tmp_path / "docs" / "lost.md").write_text("# In no navigation\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    for said in ("no-such-page.md", "no-such-heading", "images/none.png", "lost.md"):
        assert said in done.stdout + done.stderr
