"""What of an encoder's folder others get: its files, without the paths of the machine that made it."""

import json
import re
from pathlib import Path
from typing import Any

from vilex.errors import InputError
from vilex.hub.folder import EMBEDDED, HUB_PATTERNS, is_inside, read_encoder_config, read_json

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
ELSEWHERE = re.compile(r"(hf:[^/~.]|open_clip:|https?://(?![^/]*@)|s3://|gs://)")
PLACES = {"base", "tower", "encoder", "path", "validation", "out"}  # settings of a run that name files or models


def public_config(folder: Path, base: str | None = None) -> dict[str, Any]:
    """An encoder's config.json for others.

    Args:
        base: hub id of the frozen model, where the encoder names a folder of this machine.
    Raises:
        InputError: the folder holds no encoder, or names a base model that nobody else has.
    """
    config = without_paths(read_encoder_config(folder) | {"base_model": None}) | {"base_model": base}
    if base is not None and not _is_public(base):
        raise InputError(f"--base {base}: no hub id; expected OWNER/NAME or OWNER/NAME@REVISION")
    if base is None:
        own = read_encoder_config(folder).get("base_model")
        if not isinstance(own, str) or not ((own and is_inside(folder, own)) or _is_public(own)):
            raise InputError(
                f"{folder}: its base model is {own!r}, which others cannot find; give its id on the hub with --base"
            )
        config["base_model"] = own
    return config


def public_files(folder: Path, base: str | None = None) -> dict[str, Path | bytes]:
    """Every file that belongs to an encoder, by its path in a repository: a file, or its new content."""
    files: dict[str, Path | bytes] = {}
    for pattern in (*HUB_PATTERNS, "*.safetensors", "LICENSE*"):
        for path in sorted(folder.rglob(pattern)):
            name = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") for part in name.parts):
                files[name.as_posix()] = _json(without_paths(read_json(path))) if _is_settings(path) else path
    return files | {"config.json": _json(public_config(folder, base))}


def without_paths(value: Any, key: str = "") -> Any:
    """Plain values without those that name places of this machine."""
    if isinstance(value, dict):
        pairs = {name: without_paths(one, name) for name, one in value.items() if name != "_name_or_path"}
        return {name: one for name, one in pairs.items() if one is not _PRIVATE}
    if isinstance(value, list | tuple):
        return [one for one in (without_paths(one, key) for one in value) if one is not _PRIVATE]
    if isinstance(value, str) and value and _is_private(value, key):
        return _PRIVATE
    return value


_PRIVATE = object()


def _is_private(value: str, key: str) -> bool:
    if value.startswith(("/", "~", "./", "../", "file:", "pipe:")) or re.match(r"[A-Za-z]:[\\/]", value):
        return True
    return key in PLACES and not _is_public(value)


def _is_public(name: str) -> bool:
    if name in EMBEDDED or ELSEWHERE.match(name):
        return True
    return bool(HUB_ID.fullmatch(name)) and not name.startswith(".") and not Path(name).exists()


def _is_settings(path: Path) -> bool:
    return path.name in ("config.json", "model_index.json", "scheduler_config.json", "tokenizer_config.json")


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
