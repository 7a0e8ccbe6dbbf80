"""What PyPI shows: the README, its links and pictures by their whole address.

In a clone, in the site and on a forge they are relative, and right; PyPI knows no files beside the text. The address
is that of `project.urls`' Repository or, where none is written there, of the repository whose GitHub action builds
this, so that a fork shows its own. `HEAD` is its default branch: pictures show whether or not somebody has set a tag.
"""

import os
import re
import sys
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
LINK = re.compile(r"(!?)(\[[^\]]*\]\()(?![a-z]+:|#)([^)\s]+)\)")


def repository() -> str:
    """The repository's address, or nothing where nobody says it."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    server, name = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    return project["urls"].get("Repository", f"{server}/{name}" if server and name else "").rstrip("/")


def absolute(text: str, address: str) -> str:
    """A README whose links lead to `address`: pictures to the files themselves, others to the pages that show them."""
    return LINK.sub(lambda one: f"{one[1]}{one[2]}{address}/{'raw' if one[1] else 'blob'}/HEAD/{one[3]})", text)


readme, address = (HERE / "README.md").read_text(encoding="utf-8"), repository()
if not address:
    print("README: no project.urls.Repository, so its pictures will not show on PyPI", file=sys.stderr)
setup(long_description=absolute(readme, address) if address else readme, long_description_content_type="text/markdown")
