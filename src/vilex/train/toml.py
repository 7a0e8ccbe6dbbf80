"""TOML files to frozen dataclasses, strictly.

A configuration is a tree of frozen dataclasses whose defaults stand in the code. A TOML file and
`section.key=value` overrides change them; an unknown key is an error that names the nearest right one.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from vilex.errors import InputError

Config = TypeVar("Config")


def load_toml(cls: type[Config], path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Read a dataclass from a TOML file, then apply `section.key=value` overrides in order.

    Raises:
        InputError: the file is missing or is no TOML, a key is unknown, or a value has the wrong type.
    """
    path = Path(path)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give the path of a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    for override in overrides:
        _apply_override(tree, override)
    return build(cls, tree, where=str(path))


def build(cls: type[Config], tree: dict[str, Any], where: str = "config") -> Config:
    """Build a (nested) dataclass from plain dictionaries; see `load_toml` for what raises."""
    hints = typing.get_type_hints(cls)
    known = {field.name for field in dataclasses.fields(cls)}
    values = {}
    for key, value in tree.items():
        if key not in known:
            raise InputError(f"{where}: unknown key '{key}'{_nearest(key, known)}")
        values[key] = _convert(hints[key], value, f"{where}: {key}")
    try:
        return cls(**values)
    except TypeError as error:
        raise InputError(f"{where}: {str(error).split(')', 1)[-1].strip()}") from None


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain values, ready for JSON."""
    return dataclasses.asdict(config)


def _nearest(key: str, known: set[str]) -> str:
    close = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.4)
    return f"; did you mean '{close[0]}'?" if close else f"; known keys: {', '.join(sorted(known))}"


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise InputError(f"override '{override}': expected section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string, as a shell user expects
    *sections, name = key.strip().split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise InputError(f"override '{override}': '{section}' is a value, not a section")
    tree[name] = value


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Check `value` against a type hint; tuples come from lists, sections from tables."""
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise InputError(f"{where}: expected a section, got {value!r}")
        return build(hint, value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if value not in arguments:
            raise InputError(f"{where}: expected one of {', '.join(map(repr, arguments))}, got {value!r}")
        return value
    if origin in (typing.Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        return _convert(options[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise InputError(f"{where}: expected a list, got {value!r}")
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict or hint is dict:
        if not isinstance(value, dict):
            raise InputError(f"{where}: expected a section, got {value!r}")
        return value
    if hint is float and type(value) in (int, float):
        return float(value)
    if hint in (int, bool, str, float):
        if type(value) is not hint:
            raise InputError(f"{where}: expected {hint.__name__}, got {value!r}")
        return value
    raise TypeError(f"{where}: no conversion for {hint!r}")  # a programmer's error, not a user's
