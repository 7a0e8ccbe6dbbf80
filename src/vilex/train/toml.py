"""TOML files to frozen dataclasses, strictly.

A configuration is a tree of frozen dataclasses whose defaults and ranges stand in the code. A TOML file and
`section.key=value` overrides change them; an unknown key is an error that names the nearest right one.
Relative paths in the file are relative to it, those of overrides to the folder one is in.
"""

import dataclasses
import glob
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from vilex.errors import InputError
from vilex.settings import Names, build

Config = TypeVar("Config")

__all__ = ["build", "load_toml", "to_dict"]


def load_toml(
    cls: type[Config], path: str | Path, overrides: list[str] | tuple[str, ...] = (), folder: Path | None = None
) -> Config:
    """Read a dataclass from a TOML file, then apply `section.key=value` overrides in order.

    Args:
        folder: what relative paths of the overrides are relative to, where that is not the folder one is in.
    Raises:
        InputError: the file is missing or is no TOML, a key is unknown, or a value has the wrong type or is out
            of its range.
    """
    path = Path(path)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8; save it as UTF-8") from None
    except (OSError, ValueError) as error:
        if isinstance(error, tomllib.TOMLDecodeError):
            raise InputError(f"{path}: not valid TOML: {error}") from None
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot be read ({reason}); give the path of a TOML file") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply; give a TOML file of sections and values") from None
    _from_folder(cls, tree, path.parent.absolute())
    for override in overrides:
        _apply_override(tree, override, cls, folder)
    return build(cls, tree, where=str(path))


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain values, ready for JSON."""
    return dataclasses.asdict(config)


def _from_folder(cls: type, tree: Any, folder: Path) -> None:
    """Make the relative paths of a tree absolute, from `folder` on; what is no tree of `cls` is left as it is."""
    if not isinstance(tree, dict):
        return
    for key, hint in get_type_hints(cls, include_extras=True).items():
        value = tree.get(key)
        if dataclasses.is_dataclass(hint):
            _from_folder(hint, value, folder)  # type: ignore[arg-type]
        elif get_origin(hint) is tuple and dataclasses.is_dataclass(get_args(hint)[0]):
            for item in value if isinstance(value, list) else []:
                _from_folder(get_args(hint)[0], item, folder)
        elif get_origin(hint) is Annotated and isinstance(value, str) and value:
            for names in (one for one in get_args(hint) if isinstance(one, Names)):
                tree[key] = _absolute(value, names, folder)


def _absolute(value: str, names: Names, folder: Path) -> str:
    value = os.path.expanduser(value)
    if os.path.isabs(value):
        return value
    if names is Names.MODEL:  # OWNER/NAME is a folder here, if there is one
        own = value.startswith(".") or _is_folder(folder / value)
        return os.path.normpath(folder / value) if own else value
    if names is Names.PICTURES:
        if "://" in value or value.startswith(("hf:", "pipe:")):
            return value
        if glob.has_magic(value) or "{" in value:
            return os.path.join(glob.escape(str(folder)), value)
        return os.path.join(folder, value)
    return os.path.normpath(folder / value)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # too long a name, or NUL
        return False


def _apply_override(tree: dict[str, Any], override: str, cls: type, folder: Path | None) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise InputError(f"override '{override}': expected section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text  # a bare word is a string, as a shell user expects
    *sections, name = key.strip().split(".")
    given = leaf = {name: value}
    for section in reversed(sections):
        given = {section: given}
    if folder:
        _from_folder(cls, given, folder)
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise InputError(f"override '{override}': '{section}' is a value, not a section")
    tree[name] = leaf[name]
