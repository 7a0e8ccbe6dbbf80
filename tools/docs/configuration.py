"""The configuration reference: tables of what dataclasses say of themselves.

A setting's type, default and range are those of its field, its meaning is the comment beside or above it.
"""

import dataclasses
import inspect
import io
import json
import tokenize
from importlib import import_module
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from vilex.settings import Names, Range

HEAD = "| setting | type | default | range | meaning |\n| --- | --- | --- | --- | --- |\n"


def reference(name: str, level: str = "###") -> str:
    """A dataclass by its dotted name: a heading and a table for it and for each section in it, as TOML has them."""
    module, _, kind = name.rpartition(".")
    return "\n".join(_sections(getattr(import_module(module), kind), "", level))


def _sections(kind: type, section: str, level: str) -> list[str]:
    hints, comments = get_type_hints(kind, include_extras=True), field_comments(kind)
    rows, inner = [], list[str]()
    for field in dataclasses.fields(kind):
        name, hint = f"{section}{field.name}", hints[field.name]
        if dataclasses.is_dataclass(hint):
            inner += _sections(hint, f"{name}.", level)  # type: ignore[arg-type]
            continue
        rows.append(_row(name.rpartition("[].")[2], field, hint, comments[field.name]))
        if get_origin(hint) is tuple and dataclasses.is_dataclass(one := get_args(hint)[0]):
            inner += _sections(one, f"{name}[].", level)  # type: ignore[arg-type]
    if not rows:
        return inner
    title = "At the top" if not section else f"[{section[:-1]}]"
    if section.endswith("[]."):
        title = f"[[{section[:-3]}]]"
    own = inspect.cleandoc(kind.__doc__ or "").splitlines()[0]
    return [f"{level} {title}\n\n{own}\n\n{HEAD}{''.join(rows)}", *inner]


def _row(name: str, field: "dataclasses.Field[Any]", hint: Any, meaning: str) -> str:
    kind, limits = described(hint)
    default = _default(field)
    if not meaning:
        raise ValueError(f"{name}: has no meaning; write a comment beside it or above it")
    cells = (f"`{name}`", kind, f"`{default}`" if default else "", limits, meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _default(field: "dataclasses.Field[Any]") -> str:
    value = field.default
    if value is dataclasses.MISSING or value == ():
        return ""
    return json.dumps(value, default=list)


def described(hint: Any) -> tuple[str, str]:
    """A type hint in words, and the values it allows."""
    if get_origin(hint) is Annotated:
        (kind, allowed), marks = described(get_args(hint)[0]), get_args(hint)[1:]
        for mark in marks:
            if isinstance(mark, Range):
                allowed = str(mark).removeprefix("from ")
            if isinstance(mark, Names):
                kind = mark.value
        return kind, allowed
    if get_origin(hint) is Literal:
        return "text", ", ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if dataclasses.is_dataclass(inner):
            return "sections", ""
        kind, allowed = described(inner)
        return f"list of {kind}", allowed and f"each {allowed}"
    names = {str: "text", bool: "true or false", int: "whole number", float: "number"}
    return names[hint], ""


def field_comments(kind: type) -> dict[str, str]:
    """What stands beside each field (`#` behind it) or, if nothing does, right above it; inherited fields included."""
    found: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        if dataclasses.is_dataclass(cls):
            found |= _comments_of(cls)
    return found


def _comments_of(cls: type) -> dict[str, str]:
    comments: dict[int, str] = {}
    fields: dict[str, tuple[int, int]] = {}
    start = None  # of a logical line: its first token
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(cls)).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ")
        elif token.type == tokenize.NEWLINE and start:
            if start.string in inspect.get_annotations(cls) and start.start[1] == 4:
                fields[start.string] = start.start[0], token.start[0]
            start = None
        elif token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT) and not start:
            start = token
    behind = {last for _, last in fields.values()}
    return {name: comments.get(last) or _above(comments, first, behind) for name, (first, last) in fields.items()}


def _above(comments: dict[int, str], line: int, behind: set[int]) -> str:
    """The block of comments that ends just above a line; those behind fields are no part of it."""
    block = list[str]()
    while (line := line - 1) in comments and line not in behind:
        block.insert(0, comments[line])
    return " ".join(block)
