"""Pictures that say which one they are, and shards of them."""

import io
import tarfile

import numpy as np
import torch
from PIL import Image

from vilex.data import make_loader, open_sources
from vilex.data.config import DataConfig


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def numbered(i, size=16):
    """A picture that says which one it is."""
    return Image.fromarray(np.full((size, size, 3), (i % 256, i // 256, 77), dtype=np.uint8))


def number_of(pixels):
    red, green = ((pixels[:2, 0, 0] + 1) * 127.5).round().int().tolist()
    return red + 256 * green


def open_one(**settings):
    return open_sources(DataConfig(**settings))[0]


def write_shards(folder, counts, caption="txt", suffix="tar"):
    """Tar shards of numbered pictures, as img2dataset writes them."""
    folder.mkdir(exist_ok=True)
    number = 0
    for shard, count in enumerate(counts):
        with tarfile.open(folder / f"{shard:03d}.{suffix}", "w:gz" if suffix.endswith("gz") else "w") as tar:
            for _ in range(count):
                text = f"number {number}".encode() if caption == "txt" else b'{"caption": "number %d"}' % number
                for name, content in ((f"{number:05d}.png", png(numbered(number))), (f"{number:05d}.{caption}", text)):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                number += 1
    return number


def loader(sources, config, **settings):
    defaults = {"batch_size": 4, "seed": 0, "start": 0, "steps": 8, "image_size": 16}
    return make_loader(sources, config, **{**defaults, **settings}, preprocess=lambda images: torch.zeros(1, 3, 2, 2))


def numbers(batches):
    return [number_of(pixels) for batch in batches for pixels in batch.pixels]


def write_tar(path, members):
    """A tar of members by name, in order."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
