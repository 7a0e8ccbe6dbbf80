"""Folders of pictures as methods and evaluations write them, paired by the source each picture was made from.

    pictures of any origin         by the name of the source's file, without its suffix
    `vilex reconstruct`            by its manifest: each source's file and hash; FOLDER#16 names the number of tokens
    `vilex generate`               by its manifest, if the prompt shows one picture
    `vilex eval reconstruction`    a row's folder (`out/pictures/16-tokens`), by the evaluation's own order

Of several pictures of one source the first counts: of the lowest seed, or by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vilex.errors import InputError
from vilex.eval.picture_store import ORDER, SOURCES, folder_name
from vilex.hub.folder import file_hash, read_json
from vilex.pictures.load import EXTENSIONS

MANIFESTS = "manifest*.json"
ANEW = "take it away, or make the pictures anew"


@dataclass(frozen=True)
class Source:
    """A picture that others are compared with. name: its file's, without the suffix."""

    name: str
    path: Path


@dataclass(frozen=True)
class Method:
    """A way to make pictures. pictures: one for each source that it has a picture of, by the source's name."""

    name: str
    folder: str
    pictures: Mapping[str, Path]


def read_sources(folder: Path) -> list[Source]:
    """The pictures of a folder, by name.

    Raises:
        InputError: there are none, or two share a name without suffix.
    """
    found = [Source(path.stem, path) for path in pictures_in(folder)]
    names = [source.name for source in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{folder}: two pictures are named {twice[0]!r}; give each a name of its own")
    return found


def read_method(given: str, sources: Sequence[Source]) -> Method:
    """What `[NAME=]FOLDER[#TOKENS]` stands for.

    Raises:
        InputError: it is no folder, or holds no picture of these sources, or of several numbers of tokens.
    """
    name, _, rest = given.rpartition("=") if "=" in given else ("", "", given)
    written, _, count = rest.partition("#")
    if count and not count.isdecimal():
        raise InputError(f"{given}: expected a number of tokens after '#', as in {written}#16")
    folder = Path(written)
    if not folder.is_dir():
        raise InputError(f"{written}: no folder; give [NAME=]FOLDER, or FOLDER#16 for one number of tokens")
    name = name or (f"{folder.name} {count}".strip() if folder.name else folder.resolve().name)
    pictures = _of_evaluation(folder, sources)
    if not pictures:
        pictures = _by_manifest(folder, sources, int(count) if count else None) or _by_name(folder, sources)
    if not pictures:
        raise InputError(
            f"{written}: holds no picture of the {len(sources)} sources; name each picture as its source is named"
        )
    return Method(name, str(folder), pictures)


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder by name, none of them hidden.

    Raises:
        InputError: there are none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no folder; give one with pictures")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and path.is_file())
    found = [path for path in found if not path.name.startswith(".")]
    if not found:
        raise InputError(f"{folder}: a folder without pictures; give one that has some")
    return found


def _by_name(folder: Path, sources: Sequence[Source]) -> dict[str, Path]:
    try:
        there = {path.stem: path for path in reversed(pictures_in(folder))}
    except InputError:
        return {}
    return {source.name: there[source.name] for source in sources if source.name in there}


def _of_evaluation(folder: Path, sources: Sequence[Source]) -> dict[str, Path]:
    """The pictures of a row, of its first seed, in the evaluation's order of sources."""
    row = folder.parent if folder.name.isdecimal() else folder
    order = row.parent.parent / ORDER
    if row.parent.name != "pictures" or not order.is_file():
        return {}
    keys = read_json(order, ANEW)
    places = {folder_name(place): place for place in keys}
    if row.name not in places or SOURCES not in keys:
        return {}
    seeds = [folder] if folder != row else sorted(row.glob("[0-9]*"), key=lambda path: int(path.name))
    known = dict(zip(keys[SOURCES], keys[places[row.name]], strict=False))
    named = {source.name for source in sources}
    found: dict[str, Path] = {}
    for source, key in known.items():
        paths = [path for seed in seeds if (path := seed / f"{key}.png").is_file()]
        if source in named and paths:
            found[source] = paths[0]
    return found


def _by_manifest(folder: Path, sources: Sequence[Source], count: int | None) -> dict[str, Path]:
    """Pictures whose manifest names a source, by its hash or else by its name; grids are left out."""
    entries = [entry for path in sorted(folder.glob(MANIFESTS)) for entry in _entries(read_json(path, ANEW))]
    entries = [entry for entry in entries if (folder / entry["file"]).is_file()]
    counts = sorted({entry["tokens"] for entry in entries if entry["tokens"] is not None})
    if count is None and len(counts) > 1:
        raise InputError(
            f"{folder}: holds pictures of {', '.join(map(str, counts))} tokens; name one, as in {folder}#{counts[-1]}"
        )
    if count is not None:
        entries = [entry for entry in entries if entry["tokens"] == count]
        if not entries:
            said = ", ".join(map(str, counts)) or "no number of"
            raise InputError(f"{folder}#{count}: holds pictures of {said} tokens, not of {count}")
    hashes = {file_hash(source.path): source.name for source in sources} if entries else {}
    named = {source.name for source in sources}
    found: dict[str, Path] = {}
    for entry in sorted(entries, key=lambda one: (one["seed"], one["file"])):
        stem = Path(entry["source"]).stem
        source = hashes.get(entry["sha256"]) or (stem if stem in named else None)
        if source:
            found.setdefault(source, folder / entry["file"])
    return found


def _entries(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """file, source, sha256, tokens and seed of each picture of a manifest that was made from one source."""
    images = manifest.get("images")
    if isinstance(images, dict) and len(images) == 1:
        (name,) = images
        about = {"source": str(images[name]), "sha256": (manifest.get("image_sha256") or {}).get(name)}
    else:
        about = {"source": "", "sha256": None}
    found = []
    for entry in manifest.get("files", []):
        tokens = entry.get("tokens")
        if not isinstance(tokens, int | None) or not isinstance(entry.get("file"), str):
            continue
        source, digest = entry.get("source", about["source"]), entry.get("source_sha256", about["sha256"])
        found.append(
            {
                "file": Path(entry["file"]).name, "source": str(source), "sha256": digest, "tokens": tokens,
                "seed": entry.get("seed", 0),
            }
        )  # fmt: skip
    return found
