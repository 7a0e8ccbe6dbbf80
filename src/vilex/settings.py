"""What a setting may be, said once beside its default and checked wherever values enter: TOML, shell, Python.

A configuration is a tree of frozen dataclasses. Its numbers carry their range, its paths what they name:

    steps: Annotated[int, Range(1, 10**9)] = 300_000
    clip_norm: Annotated[float, Range(0, 1e6, "0 is off")] = 1.0
    out: Annotated[str, Names.FILE] = "out"
"""

import dataclasses
import difflib
import types
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vilex.checks import shown
from vilex.errors import InputError

Config = TypeVar("Config")


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`, both allowed; `note` says what a special value means."""

    low: float
    high: float
    note: str = ""

    def __str__(self) -> str:
        return f"from {self.low:,} to {self.high:,}".replace(",", "_") + f" ({self.note})" * bool(self.note)


class Names(Enum):
    """What a text names, where it is more than a text: it may then be relative to the file that says it."""

    FILE = "a file or folder"
    MODEL = "a model folder or a hub id"
    PICTURES = "a folder, tables, tar shards, a URL or hf:NAME"


class Default:
    """Marks a number as nobody's choice: the default stands, unless something else knows better."""


class DefaultInt(int, Default):
    """A whole number that is a default."""


class DefaultFloat(float, Default):
    """A number that is a default."""


def build(cls: type[Config], tree: dict[str, Any], where: str = "config", section: str = "") -> Config:
    """A (nested) dataclass from plain dictionaries.

    Args:
        where: the file or what else the values are from, for errors. section: the dotted name of `tree` in it.
    Raises:
        InputError: a key is unknown, or a value has the wrong type or is out of its range; the line names it.
    """
    hints = get_type_hints(cls, include_extras=True)
    known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values = {}
    for key, value in tree.items():
        if key not in known:
            raise InputError(f"{where}: unknown key '{section}{key}'{_nearest(str(key), known, section)}")
        values[key] = _convert(hints[key], value, where, f"{section}{key}")
    return cls(**values)


def check(config: Any, where: str = "config", section: str = "") -> None:
    """Raise InputError if a value of a (nested) dataclass has the wrong type or is out of its range."""
    hints = get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        _convert(hints[field.name], getattr(config, field.name), where, f"{section}{field.name}")


def _convert(hint: Any, value: Any, where: str, name: str) -> Any:
    """A value as its type hint wants it: whole numbers become floats, lists tuples, tables dataclasses."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        ranges = [one for one in arguments[1:] if isinstance(one, Range)]
        return (
            _number(arguments[0], ranges[0], value, where, name)
            if ranges
            else _convert(arguments[0], value, where, name)
        )
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            check(value, where, f"{name}.")
            return value
        return build(hint, _expect(dict, "a section", value, where, name), where, f"{name}.")  # type: ignore[arg-type]
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"{where}: {name}: expected one of {', '.join(map(repr, arguments))}, got {value!r}")
        return value
    if origin in (Union, types.UnionType):
        return value if value is None else _convert(arguments[0], value, where, name)
    if origin is tuple:
        items = _expect((list, tuple), "a list", value, where, name)
        return tuple(_convert(arguments[0], item, where, f"{name}[{i}]") for i, item in enumerate(items))
    if hint is dict or origin is dict:
        return _expect(dict, "a section", value, where, name)
    if hint is float and type(value) is int and abs(value) < 1e300:
        return float(value)
    kinds = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
    if hint not in kinds:
        raise TypeError(f"{where}: {name}: no conversion for {hint!r}")  # a programmer's error, not a user's
    value = _expect(hint, kinds[hint], value, where, name)
    if "\0" in str(value):
        raise InputError(f"{where}: {name}: expected {kinds[hint]} without NUL, got {value!r}")
    return value


def _number(kind: type, limits: Range, value: Any, where: str, name: str) -> Any:
    right = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if not right or not limits.low <= value <= limits.high:  # which NaN is not
        called = "a whole number" if kind is int else "a number"
        raise InputError(f"{where}: {name}: expected {called} {limits}, got {shown(value)}")
    return value if isinstance(value, kind) else kind(value)


def _expect(kind: Any, called: str, value: Any, where: str, name: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{where}: {name}: expected {called}, got {value!r}")
    return value


def _nearest(key: str, known: set[str], section: str) -> str:
    close = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.4)
    return f"; did you mean '{section}{close[0]}'?" if close else f"; known keys: {', '.join(sorted(known))}"
