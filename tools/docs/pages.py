"""Pages of the site that lie outside docs/, and links to them.

A page of docs/ may link to any file of the repository, as it does where a repository is browsed. Here such a file
becomes a part of the site: a page if it is Markdown, else a file to look at. So no link leaves for an address that
somebody has to know, and a link to nothing is found by MkDocs.
"""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = "docs/"
FROM_ROOT = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def repository_path(page: str) -> str:
    """Where a page of the site lies in the repository: docs/guide.md for guide.md, README.md for itself."""
    inside = DOCS + page
    return inside if (ROOT / inside).is_file() else page


def site_path(file: str) -> str:
    """The opposite of `repository_path`: what the site calls a file of the repository; a notebook is a page there."""
    return re.sub(r"\.ipynb$", ".md", file.removeprefix(DOCS))


def relinked(markdown: str, page: str) -> tuple[str, set[str]]:
    """A page whose links to files of the repository are links inside the site.

    Args:
        markdown: the page's text, links in it relative to the file. page: its path in the site.
    Returns:
        The text, and the files outside docs/ that it needs, by their path in the repository.
    """
    source, needed = repository_path(page), set[str]()

    def relink(link: re.Match[str]) -> str:
        start, target, anchor, end = link.groups()
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / file).is_file():
            return link.group()
        if not file.startswith(DOCS):
            needed.add(file)
        return f"{start}{posixpath.relpath(site_path(file), posixpath.dirname(page))}{anchor or ''}{end}"

    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(relink, part) for part in parts), needed


def outside_files(pages: dict[str, str]) -> list[str]:
    """All files outside docs/ that pages (text by path in the site) need, those of such pages themselves included."""
    waiting = [file for page, text in pages.items() for file in relinked(text, page)[1]]
    waiting += [file for file in FROM_ROOT if (ROOT / file).is_file()]
    found: dict[str, None] = {}
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found[file] = None
        if file.endswith(".md"):
            waiting += relinked((ROOT / file).read_text(encoding="utf-8"), file)[1]
    return sorted(found)
