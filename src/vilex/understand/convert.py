"""A published set written in the one form of example: pictures checked, tested ones taken out, all of it counted."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vilex.errors import InputError
from vilex.understand.examples import Example, read_examples, write_examples
from vilex.understand.tasks.refer import decontaminated
from vilex.understand.tasks.registry import load_examples
from vilex.understand.tasks.task import Published, Task


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        root: the folder that pictures are relative to. examples, pictures, suffixes: how many.
        taken_out: examples whose picture is among those of `without`. missing: examples without their picture.
    """

    root: Path
    examples: int
    pictures: int
    suffixes: int
    taken_out: int
    missing: int


def convert(
    task: Task,
    source: Published,
    out: Path,
    root: Path | None = None,
    without: Sequence[Path] = (),
    skip_missing: bool = False,
) -> Converted:
    """Write a set as JSON lines.

    Args:
        root: pictures are written relative to it; by default the folder of `out` where they lie below it, else theirs.
        without: files that were converted before; examples with a picture of theirs are taken out.
        skip_missing: leave out examples without their picture, instead of refusing the set.
    Raises:
        InputError: the set cannot be read (see `load_examples`), lacks pictures, or nothing of it is left.
    """
    examples = load_examples(task, source)
    _check_ids(examples, source)
    kept = _without(examples, without, source.images)
    there = [example for example in kept if all(_is_there(image) for image in example.images)]
    if len(there) < len(kept) and not skip_missing:
        lacking = next(image for example in kept for image in example.images if not _is_there(image))
        raise InputError(
            f"{source.images}: {len(kept) - len(there)} of {len(kept)} examples lack their picture, {lacking} first; "
            "add them, or leave those examples out (--skip-missing) and say on how many you report"
        )
    if not there:
        raise InputError(f"{source.files[0]}: no example of {len(examples)} is left")
    root = root or (out.parent if _below(source.images, out.parent) else source.images)
    there = [replace(one, images=tuple(_absolute(image) for image in one.images)) for one in there]
    write_examples(out, there, root)
    return Converted(
        root=root,
        examples=len(there),
        pictures=len({image for example in there for image in example.images}),
        suffixes=sum(len(example.suffixes) for example in there),
        taken_out=len(examples) - len(kept),
        missing=len(kept) - len(there),
    )


def _without(examples: list[Example], files: Sequence[Path], images: Path) -> list[Example]:
    """The examples without those whose picture a file has, by COCO's number or by the file itself."""
    for path in files:
        tested = _found(read_examples(path), path, images)
        by_number = {"image_id" in example.fields for example in (*tested, *examples)}
        if len(by_number) > 1:
            raise InputError(
                f"{path}: pictures are known by 'image_id' on one side and by their files on the other; convert both "
                "from the same kind of file"
            )
        kept = decontaminated(map(_with_whole_paths, examples), map(_with_whole_paths, tested))
        if not kept:
            raise InputError(f"{path}: has every picture of this set, so that nothing is left; give the tested splits")
        examples = kept
    return examples


def _found(tested: list[Example], path: Path, images: Path) -> list[Example]:
    """Examples that were written relative to their file's folder, or to that of this set's pictures."""
    if "image_id" in tested[0].fields or _is_there(tested[0].images[0]):
        return tested
    tested = read_examples(path, images)
    if not _is_there(tested[0].images[0]):
        raise InputError(f"{path}: its picture {tested[0].images[0]} is not there; move the file where it was written")
    return tested


def _with_whole_paths(example: Example) -> Example:
    return replace(example, images=tuple(_real(image) for image in example.images))


def _real(image: object) -> Path:
    return Path(os.path.realpath(str(image)))


def _absolute(image: object) -> Path:
    return Path(str(image)).absolute()


def _is_there(image: object) -> bool:
    return os.path.isfile(str(image))


def _below(folder: Path, above: Path) -> bool:
    whole, home = (Path(os.path.normpath(path.absolute())) for path in (folder, above))
    return whole.is_relative_to(home)


def _check_ids(examples: Sequence[Example], source: Published) -> None:
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise InputError(f"{source.files[0]}: two examples are called {example.id!r}; is a file given twice?")
        seen.add(example.id)
