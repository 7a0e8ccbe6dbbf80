"""Training images: folders and Parquet tables as datasets, and an order that can be resumed."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vilex.errors import InputError
from vilex.images import EXTENSIONS, load_image, square, to_rgb
from vilex.train.config import DataConfig


@dataclass(frozen=True)
class Example:
    """One image and all its captions (none for an image alone)."""

    image: Image.Image
    captions: tuple[str, ...]


class FolderDataset(Dataset):
    """Every image below a folder; captions from a `.txt` beside it, one a line."""

    def __init__(self, folder: Path):
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
        if not self.paths:
            raise InputError(f"data.path: {folder}: no images below this folder")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Example:
        path = self.paths[index]
        beside = path.with_suffix(".txt")
        lines = beside.read_text(encoding="utf-8").splitlines() if beside.is_file() else []
        return Example(load_image(path), tuple(line.strip() for line in lines if line.strip()))


class ParquetDataset(Dataset):
    """A table with encoded images (bytes, or Hugging Face's {bytes, path}) and optional captions."""

    def __init__(self, path: Path, config: DataConfig):
        self.path = path
        try:
            names = pyarrow.parquet.read_schema(path).names
            if config.image_column not in names:
                raise InputError(
                    f"data.image_column: {path} has no column '{config.image_column}', only {', '.join(names)}"
                )
            columns = [name for name in (config.image_column, config.caption_column) if name in names]
            table = pyarrow.parquet.read_table(path, columns=columns)
        except (OSError, pyarrow.ArrowException) as error:
            raise InputError(f"data.path: {path}: cannot be read as Parquet ({error})") from None
        self.images = table[config.image_column]
        self.captions = table[config.caption_column] if config.caption_column in names else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        cell = self.images[index].as_py()
        content = cell["bytes"] if isinstance(cell, dict) else cell
        try:
            image = to_rgb(Image.open(io.BytesIO(content)), f"{self.path} row {index}")
        except (UnidentifiedImageError, OSError, TypeError) as error:
            raise InputError(f"{self.path} row {index}: not a readable image ({error})") from None
        text = self.captions[index].as_py() if self.captions is not None else None
        return Example(image, tuple([text] if isinstance(text, str) else text or ()))


def open_dataset(config: DataConfig) -> FolderDataset | ParquetDataset:
    """Raises InputError if `config.path` is neither a folder of images nor a Parquet table."""
    path = Path(config.path)
    if path.is_dir():
        return FolderDataset(path)
    if path.is_file():
        return ParquetDataset(path, config)
    raise InputError(f"data.path: {path}: no such folder or Parquet table")


@dataclass
class Batch:
    """What one step learns from.

    Attributes:
        pixels: [B, 3, H, W] in -1..1, for the frozen model.
        pixel_values: [B, 3, S, S], for the tower.
        captions: B texts, empty where there are none.
    """

    pixels: Tensor
    pixel_values: Tensor
    captions: list[str]


class Shuffled(torch.utils.data.Sampler):
    """Batches of indices in an order that depends on the seed and the step alone.

    Each epoch is a permutation of its own; starting at step s gives what an uninterrupted run would
    have given from there on. An index comes with its visit's number, which seeds what is drawn for it.
    """

    def __init__(self, count: int, batch_size: int, seed: int, start: int, steps: int):
        self.count, self.batch_size, self.seed, self.start, self.steps = count, batch_size, seed, start, steps

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.start, self.steps):
            batch = []
            for visit in range(step * self.batch_size, (step + 1) * self.batch_size):
                if visit // self.count != epoch:
                    epoch = visit // self.count
                    order = np.random.default_rng((self.seed, epoch)).permutation(self.count)
                batch.append((int(order[visit % self.count]), visit))
            yield batch


class _Prepared(Dataset):
    """Examples made ready: cropped for both models, one caption drawn, mirrored or not."""

    def __init__(self, dataset: Dataset, config: DataConfig, seed: int, size: int, preprocess: Callable):
        self.dataset, self.config, self.seed, self.size, self.preprocess = dataset, config, seed, size, preprocess

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, str]:
        index, visit = key
        rng = np.random.default_rng((self.seed, 1, visit))
        example = self.dataset[index]
        image = example.image
        if self.config.flip and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        caption = example.captions[rng.integers(len(example.captions))] if example.captions else ""
        return to_pixels(square(image, self.size)), self.preprocess([image])[0], caption


def make_loader(
    dataset: Dataset,
    config: DataConfig,
    *,
    batch_size: int,
    seed: int,
    start: int,
    steps: int,
    image_size: int,
    preprocess: Callable[[list[Image.Image]], Tensor],
) -> DataLoader:
    """Batches for steps `start` to `steps`; `image_size` is the frozen model's, `preprocess` the tower's."""
    return DataLoader(
        _Prepared(dataset, config, seed, image_size, preprocess),
        batch_sampler=Shuffled(len(dataset), batch_size, seed, start, steps),
        num_workers=config.workers,
        collate_fn=_collate,
        persistent_workers=config.workers > 0,
    )


def to_pixels(image: Image.Image) -> Tensor:
    """RGB to [3, H, W] in -1..1."""
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1


def _collate(examples: list[tuple[Tensor, Tensor, str]]) -> Batch:
    pixels, pixel_values, captions = zip(*examples, strict=True)
    return Batch(torch.stack(pixels), torch.stack(pixel_values), list(captions))
