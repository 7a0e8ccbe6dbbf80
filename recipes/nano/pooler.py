"""Stage 6, the pooler's head start: it learns to say mosaics before ViLex teaches it to say pictures.

The paper's pooler starts from nothing and sees 600 million pictures. Two cores show it forty thousand, and
that is too few to find out through a frozen denoiser which query belongs to which patch. So tokens first
learn to lie where the words of the picture's own mosaic lie; ViLex's denoising loss takes over from there.
With `pooler.images = 0` the stage is left out, and the pooler starts from nothing as in the paper.
"""

from pathlib import Path

import pyarrow.parquet
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.nano.autoencoder import to_model
from recipes.nano.data import read_pixels
from recipes.nano.frozen import frozen_model
from recipes.nano.loop import Trainer
from recipes.nano.mosaic import LENGTH
from recipes.nano.presets import Preset
from vilex.encoder import ViLexEncoder
from vilex.paths import replacing_folder
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
    trainer = Trainer("pooler", encoder, settings, preset, out, seed=preset.seed + 2, crew=preset.crew)
    for step in trainer:
        index = step.rows(len(pixels))
        shown = to_model(pixels[index.numpy()], preset.device)
        words = vocabulary[ids[index, :said].to(preset.device)] / encoder.pooler.std

        def losses(
            model: nn.Module, rows: slice, shown: Tensor = shown, words: Tensor = words
        ) -> tuple[Tensor, dict[str, Tensor]]:
            with trainer.autocast():
                tokens = model(shown[rows], said).tokens.float()
            return F.mse_loss(tokens / model.pooler.std, words[rows]), {}

        trainer.learn(losses)
    trainer.use_average()
    with replacing_folder(out / "pooler") as folder:
        encoder.save_pretrained(folder, safe_serialization=True)
