"""Stage 4, the tower: a small SigLIP vision transformer, pre-trained before ViLex fine-tunes it.

The paper starts from SigLIP's weights. Nothing pre-trained is used here, so the tower first learns
what can be had for free: for each patch the auto-encoder's latent (what is where), for the whole
picture its concepts and styles (what it shows).
"""

from pathlib import Path

import pyarrow.parquet
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SiglipVisionConfig, SiglipVisionModel

from recipes.nano.autoencoder import encode_all, to_model
from recipes.nano.data import read_pixels
from recipes.nano.frozen import frozen_model
from recipes.nano.loop import Trainer, batches
from recipes.nano.presets import Preset, TowerPreset


def train_tower(preset: Preset, out: Path) -> None:
    """Train on the scenes; save a SiglipVisionModel to `out`/tower."""
    settings = preset.tower
    pixels, labels = read_pixels(out / "scenes.parquet"), scene_labels(out / "scenes.parquet")
    chosen = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(preset.seed))[: settings.images]
    pixels, labels = pixels[chosen.numpy()], labels[chosen]
    vae = AutoencoderTiny.from_pretrained(frozen_model(out), subfolder="vae", torch_dtype=torch.float32)
    latents = encode_all(vae.to(preset.device), pixels, preset.device)
    torch.manual_seed(preset.seed)
    tower = new_tower(settings, size=pixels.shape[1])
    heads = nn.ModuleList([nn.Linear(settings.width, latents.shape[1]), nn.Linear(settings.width, labels.shape[1])])
    model = nn.ModuleList([tower, heads]).to(preset.device)
    trainer = Trainer(model, settings.lr, settings.images // settings.batch, out / "logs" / "tower.jsonl")
    for index in batches(len(pixels), settings.batch, settings.images, preset.seed):
        patches = tower(to_model(pixels[index.numpy()], preset.device)).last_hidden_state
        target = latents[index].float().to(preset.device).flatten(2).transpose(1, 2)
        where = F.mse_loss(heads[0](patches), target)
        what = F.binary_cross_entropy_with_logits(heads[1](patches.mean(1)), labels[index].to(preset.device))
        trainer.step(where + 10 * what, where=where.detach(), what=what.detach())
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
