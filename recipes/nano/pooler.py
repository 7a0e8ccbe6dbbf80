"""Stage 6, the pooler's head start: it learns to say mosaics before ViLex teaches it to say pictures.

The paper's pooler starts from nothing and sees 600 million pictures. Two cores show it forty thousand, and
that is too few to find out through a frozen denoiser which query belongs to which patch. So tokens first
learn to lie where the words of the picture's own mosaic lie; ViLex's denoising loss takes over from there.
With `pooler.images = 0` the stage is left out, and the pooler starts from nothing as in the paper.
"""

from pathlib import Path

import pyarrow.parquet
import torch
from torch.nn import functional as F

from recipes.nano.autoencoder import to_model
from recipes.nano.data import read_pixels
from recipes.nano.folders import replacing_folder
from recipes.nano.frozen import frozen_model
from recipes.nano.loop import Trainer
from recipes.nano.mosaic import LENGTH
from recipes.nano.presets import Preset
from vilex.encoder import ViLexEncoder
from vilex.t2i import load_t2i
from vilex.train.models import pooler_settings


def train_pooler(preset: Preset, out: Path) -> None:
    """Train tower and pooler on the scenes' mosaics; save a ViLexEncoder to `out`/pooler."""
    settings = preset.pooler
    if not settings.images:
        return
    t2i = load_t2i(frozen_model(out))
    vocabulary = t2i.vocabulary.detach().to(preset.device)
    torch.manual_seed(preset.seed)
    encoder = ViLexEncoder.from_tower(str(out / "tower"), **pooler_settings(preset.vilex, t2i.width)).to(preset.device)
    encoder.pooler.match_vocabulary(vocabulary)
    pixels = read_pixels(out / "scenes.parquet")
    mosaics = pyarrow.parquet.read_table(out / "scenes.parquet", columns=["mosaic"])["mosaic"].to_pylist()
    ids = torch.tensor(t2i.tokenizer(mosaics, add_special_tokens=False).input_ids)
    said = min(LENGTH, encoder.config.num_tokens)
    trainer = Trainer("pooler", encoder, settings, preset, out, seed=preset.seed + 2)
    for step in trainer:
        index = step.rows(len(pixels))
        with trainer.autocast():
            tokens = encoder(to_model(pixels[index.numpy()], preset.device), said).tokens.float()
        words = vocabulary[ids[index, :said].to(preset.device)]
        trainer.update(F.mse_loss(tokens / encoder.pooler.std, words / encoder.pooler.std))
    trainer.use_average()
    with replacing_folder(out / "pooler") as folder:
        encoder.save_pretrained(folder, safe_serialization=True)
