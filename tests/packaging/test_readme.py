"""The README as PyPI shows it: every link and picture has its whole address, and leads to what is there."""

import os
import shutil
import subprocess
import sys
from email import message_from_string
from html.parser import HTMLParser
from pathlib import Path

import markdown
import pytest

ROOT = Path(__file__).parents[2]
ADDRESS = "https://forge.example/somebody/vilex"
ACTION = {"GITHUB_SERVER_URL": "https://forge.example", "GITHUB_REPOSITORY": "somebody/vilex"}


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.pictures, self.links = [], []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])
        elif tag == "a":
            self.links.append(dict(attributes)["href"])


def metadata(folder, **environment):
    """A distribution's metadata, and what was said while it was made."""
    for name in ("README.md", "pyproject.toml", "setup.py", "LICENSE", "LICENSE-WEIGHTS"):
        if not (folder / name).exists():
            shutil.copy(ROOT / name, folder / name)
    (folder / "src" / "vilex").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "src" / "vilex" / "__init__.py", folder / "src" / "vilex")
    (folder / "made").mkdir()
    code = "from setuptools.build_meta import prepare_metadata_for_build_wheel as f; f('made')"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True,
                          env={**plain, **environment})  # fmt: skip
    assert done.returncode == 0, done.stderr
    (file,) = (folder / "made").glob("*.dist-info/METADATA")
    return message_from_string(file.read_text(encoding="utf-8")), done.stderr


def described(about):
    links = Links()
    links.feed(markdown.markdown(about.get_payload(), extensions=["tables", "fenced_code"]))
    return links


def test_links_and_pictures_have_whole_addresses_and_lead_somewhere(tmp_path):
    about, said = metadata(tmp_path, **ACTION)
    assert about["Description-Content-Type"] == "text/markdown" and "no project.urls" not in said
    shown = described(about)
    assert len(shown.pictures) >= 2 and len(shown.links) > 10
    for kind, addresses in (("raw", shown.pictures), ("blob", shown.links)):
        for address in addresses:
            assert address.startswith("https://")
            if address.startswith(ADDRESS):
                assert (ROOT / address.removeprefix(f"{ADDRESS}/{kind}/HEAD/").partition("#")[0]).exists(), address


def test_an_address_that_is_written_down_goes_first(tmp_path):
    text = (ROOT / "pyproject.toml").read_text().replace(
        "[project.urls]", '[project.urls]\nRepository = "https://home.example/vilex/"'
    )  # fmt: skip
    (tmp_path / "pyproject.toml").write_text(text)
    shown = described(metadata(tmp_path, **ACTION)[0])
    assert all(one.startswith("https://home.example/vilex/raw/HEAD/docs/") for one in shown.pictures)


@pytest.mark.skipif("Repository" in (ROOT / "pyproject.toml").read_text(), reason="the address is written down")
def test_without_an_address_the_readme_is_as_it_is_and_that_is_said(tmp_path):
    about, said = metadata(tmp_path)
    assert about.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    assert "no project.urls.Repository, so its pictures will not show on PyPI" in said
