"""Stage 4, the tower: a small SigLIP vision transformer, pre-trained before ViLex fine-tunes it.

The paper starts from SigLIP's weights, which know the world. Here a small tower learns to see what
EfficientNet-Lite2, trained on ImageNet, sees in the scenes: at each of 8 x 8 places, and as a whole.
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SiglipVisionConfig, SiglipVisionModel

from recipes.nano.autoencoder import to_model
from recipes.nano.data import read_pixels
from recipes.nano.loop import Trainer
from recipes.nano.presets import Preset, TowerPreset
from recipes.nano.teacher import POOLED, WIDTH, cached_features


def train_tower(preset: Preset, out: Path) -> None:
    """Train on the scenes and photographs; save a SiglipVisionModel to `out`/tower."""
    settings = preset.tower
    tables = [path for path in (out / "scenes.parquet", out / "photos.parquet") if path.is_file()]
    pixels = np.concatenate([read_pixels(table) for table in tables])
    maps, pooled = (
        torch.cat([cached_features(table, out, pooled=which) for table in tables]) for which in (False, True)
    )
    scale = pooled[:: max(1, len(pooled) // 4096)].float().std(0).mean()
    torch.manual_seed(preset.seed)
    tower = new_tower(settings, size=pixels.shape[1])
    heads = nn.ModuleList([nn.Linear(settings.width, WIDTH), nn.Linear(settings.width, POOLED)])
    trainer = Trainer("tower", nn.ModuleList([tower, heads]).to(preset.device), settings, preset, out, seed=preset.seed)
    for step in trainer:
        index = step.rows(len(pixels))
        with trainer.autocast():
            patches = tower(to_model(pixels[index.numpy()], preset.device)).last_hidden_state
            places, whole = heads[0](patches).float(), heads[1](patches.mean(1)).float()
        where = (
            1
            - F.cosine_similarity(
                places, maps[index].float().to(preset.device).flatten(2).transpose(1, 2), dim=-1
            ).mean()
        )
        what = F.mse_loss(whole, pooled[index].float().to(preset.device) / scale)
        trainer.update(where + what, where=where, what=what)
    trainer.use_average()
    tower.save_pretrained(out / "tower", safe_serialization=True)


def new_tower(settings: TowerPreset, size: int) -> SiglipVisionModel:
    return SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=settings.width,
            intermediate_size=4 * settings.width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.width // 48,
            image_size=size,
            patch_size=settings.patch,
            vision_use_head=False,
        )
    )


def scene_labels(table: Path) -> Tensor:
    """[N, all concepts and styles of the table], 1 where a picture shows it."""
    columns = pyarrow.parquet.read_table(table, columns=["concepts", "styles"]).to_pydict()
    place = {
        name: i
        for i, name in enumerate(sorted({name for column in columns.values() for row in column for name in row}))
    }
    labels = torch.zeros(len(columns["concepts"]), len(place))
    for row, names in enumerate(zip(columns["concepts"], columns["styles"], strict=True)):
        for name in (*names[0], *names[1]):
            labels[row, place[name]] = 1
    return labels
