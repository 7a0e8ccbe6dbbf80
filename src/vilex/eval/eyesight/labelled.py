"""Pictures with a class each: a folder of folders, or a table with a column of labels."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vilex.data.config import SourceConfig
from vilex.data.example import decode_image
from vilex.data.indexed import FolderSource, HuggingFaceSource, ParquetSource
from vilex.data.sources import open_source
from vilex.errors import InputError

SHUFFLED = 0  # seed of the pictures that are taken where not all are


@dataclass(frozen=True)
class LabelledSet:
    """Pictures that are read when they are asked for, by number.

    Attributes:
        name: stands in errors.
        classes: names of the classes, sorted.
        labels: [N], which class each picture is of.
        picture: its path, or itself; raises InputError if a table's row holds none.
    """

    name: str
    classes: tuple[str, ...]
    labels: np.ndarray
    picture: Callable[[int], Path | Image.Image]

    def __len__(self) -> int:
        return len(self.labels)


def read_labelled(path: str, column: str = "label", images: int | None = None) -> LabelledSet:
    """A set by its path.

    Args:
        path: a folder with a folder for each class (their own folders belong to it), Parquet tables, or hf:NAME.
        column: of a table, its labels: texts or whole numbers.
        images: only so many, from all classes alike, at random, and the same ones every time.
    Raises:
        InputError: there is no such set, a picture has no class, or there are fewer than two classes.
    """
    source: Any = open_source(SourceConfig(path=path, caption_column=""))
    if isinstance(source, FolderSource):
        found = [_folder_of(source, one) for one in source.paths]
        picture: Callable[[int], Path | Image.Image] = source.paths.__getitem__
    elif isinstance(source, ParquetSource | HuggingFaceSource):
        config = SourceConfig(path=path, caption_column=column)
        source = open_source(config)
        found, picture = _of_rows(source, config)
    else:
        raise InputError(f"{path}: can be read in its order alone; give a folder, Parquet tables or hf:NAME")
    chosen = np.arange(len(found)) if images is None else evenly(found, images)
    kept = [found[i] for i in chosen]
    classes = tuple(sorted(set(kept)))
    if len(classes) < 2:
        raise InputError(f"{path}: holds one class alone, {classes[0]!r}; a probe tells at least two apart")
    place = {name: i for i, name in enumerate(classes)}
    return LabelledSet(path, classes, np.array([place[one] for one in kept]), lambda i: picture(int(chosen[i])))


def evenly(labels: Sequence[str], count: int) -> np.ndarray:
    """The numbers of `count` pictures, sorted: as many of each class as there can be, at random within it."""
    turns, seen = np.empty(len(labels), dtype=np.int64), Counter[str]()
    order = np.random.default_rng(SHUFFLED).permutation(len(labels))
    for i in order:
        turns[i] = seen[labels[i]]
        seen[labels[i]] += 1
    return np.sort(order[np.argsort(turns[order], kind="stable")][:count])


def with_classes(given: LabelledSet, classes: tuple[str, ...]) -> np.ndarray:
    """The labels [N] of a set by another one's classes.

    Raises:
        InputError: one of its classes is not among them.
    """
    if unknown := [name for name in given.classes if name not in classes]:
        raise InputError(f"{given.name}: class {unknown[0]!r} has no picture to learn from; leave it out of the test")
    return np.array([classes.index(name) for name in given.classes])[given.labels]


def check_learnable(name: str, classes: tuple[str, ...], labels: np.ndarray) -> None:
    """Raise InputError if a class has fewer than two pictures: one to learn from, one to choose by."""
    counts = Counter(labels.tolist())
    for i, title in enumerate(classes):
        if counts[i] < 2:
            raise InputError(f"{name}: class {title!r} has {counts[i]} picture(s) to learn from; expected at least 2")


def _folder_of(source: FolderSource, path: Path) -> str:
    first, *rest = path.relative_to(source.folder).parts
    if not rest:
        raise InputError(f"{path}: lies in no class's folder; put the pictures of each class into a folder of its own")
    return first


def _of_rows(
    source: ParquetSource | HuggingFaceSource, config: SourceConfig
) -> tuple[list[str], Callable[[int], Path | Image.Image]]:
    """Labels as texts, and pictures by number."""
    column, image = config.caption_column, config.image_column
    if isinstance(source, ParquetSource):
        table = source.table
        labels = table[column].to_pylist()

        def picture(i: int) -> Path | Image.Image:
            return decode_image(table[image][i].as_py(), source.name(i), (source.paths[0].parent,))

    else:
        rows = source.dataset
        labels = _named(rows, column)

        def picture(i: int) -> Path | Image.Image:
            return decode_image(rows[i][image], source.name(i), source.roots)

    for i, label in enumerate(labels):
        if isinstance(label, bool) or not isinstance(label, str | int) or label == "":
            raise InputError(f"{source.name(i)}: expected a class in column '{column}', got {label!r:.60}")
    return [str(label) for label in labels], picture


def _named(dataset: Any, column: str) -> list[Any]:
    """Labels by name, where the dataset has names for its numbers."""
    names = getattr(dataset.features[column], "names", None)
    values = list(dataset[column])
    return [names[value] if names and isinstance(value, int) and value >= 0 else value for value in values]
