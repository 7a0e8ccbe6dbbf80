"""Public names without a docstring: modules, classes, functions and methods that no underscore hides.

A method needs none that fills in a documented one of a base class or of a protocol, nor a property that its class's
`Attributes:` say something of.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

from tools.docs.pages import ROOT


def undocumented(package: str = "vilex", sources: Path = ROOT / "src") -> list[str]:
    """Dotted names in the order of the code, each with its file and line."""
    root = griffe.load(package, search_paths=[sources], resolve_aliases=True)
    everything = [root, *_public(root)]
    protocols = [one for one in everything if one.is_class and "Protocol" in map(str, one.bases)]
    return [
        f"{one.path} ({one.filepath.relative_to(sources)}:{one.lineno or 1})"
        for one in everything
        if not (one.has_docstring or _inherits(one, protocols))
    ]


def _public(inside: Any) -> Iterator[Any]:
    for name, member in inside.members.items():
        if name.startswith("_") or member.is_alias:
            continue
        if member.is_module or member.is_class:
            yield member
            yield from _public(member)
        elif member.is_function or "property" in member.labels:
            yield member


def _inherits(one: Any, protocols: list[Any]) -> bool:
    """Whether a base class, or a protocol that the class has all methods of, says what a method does."""
    inside = one.parent
    if not (inside and inside.is_class and (one.is_function or one.is_attribute)):
        return False
    fitting = [protocol for protocol in protocols if _methods(protocol) <= inside.all_members.keys()]
    bases = [base for base in [*inside.mro(), *fitting] if one.name in base.members]
    told = [kind.docstring.value for kind in [inside, *inside.mro(), *fitting] if kind.docstring]
    return any(base.members[one.name].has_docstring for base in bases) or any(f"{one.name}:" in text for text in told)


def _methods(protocol: Any) -> set[str]:
    return {name for name, member in protocol.members.items() if member.is_function}
