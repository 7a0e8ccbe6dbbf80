"""Docstrings as the site reads them: as Markdown, with sections as griffe wants them.

Here sections (`Args:`, `Raises:`) follow each other without blank lines, examples begin with `>>>` wherever they
stand, and <cat> is an image's place in a prompt, not markup.
"""

import re
from typing import Any

import griffe

_SECTION = re.compile(r"(?<!\n)\n(?=(?:Args|Attributes|Raises|Returns|Yields):\n)")
_EXAMPLE = re.compile(r"^(?:(?:>>>|\.\.\.).*\n?)+", re.MULTILINE)
_CODE = re.compile(r"(```.*?```|`[^`]*`|^ {4}.*$)", re.MULTILINE | re.DOTALL)
_SLOT = re.compile(r"<(?=\w)")


class Markdown(griffe.Extension):
    """What is done to each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite an object's docstring."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """A docstring with a blank line above each section, fenced examples, and brackets that are no markup."""
    prose, *sections = re.split(r"^(?=(?:Args|Attributes|Raises|Returns|Yields):$)", text, flags=re.MULTILINE)
    prose = _EXAMPLE.sub(_fenced, prose)
    parts = [part if _CODE.fullmatch(part) else _plain(part) for part in _CODE.split(prose)]
    return _SECTION.sub("\n\n", "".join(parts) + "".join(_plain(one) for one in sections))


def _plain(text: str) -> str:
    """Brackets mean themselves: <cat> is no tag, what [M][S] indexes no reference."""
    return _SLOT.sub("&lt;", text).replace("][", "]&#91;")


def _fenced(example: re.Match[str]) -> str:
    lines = "\n".join(line[4:] for line in example.group().rstrip("\n").splitlines())
    return f"\n```python\n{lines}\n```\n\n"
