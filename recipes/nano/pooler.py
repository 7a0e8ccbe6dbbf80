"""Stage 6, the pooler's head start: it learns to say told mosaics before ViLex teaches it to say pictures.

The paper's pooler starts from nothing and sees 600 million pictures. Two cores show it forty thousand, and
that is too few to find out through a frozen denoiser which query belongs to which patch. So tokens first
learn to lie where the vectors of the picture's own told mosaic lie (`speech.py`): the dense caption in one vector and
in three, then the cells' colours. ViLex's denoising loss takes over from there. What captions say teaches the pooler
alone: the tower goes into ViLex without a word of them, so that tables about its eyes compare what pictures taught it.
With `pooler.images = 0` the stage is left out, and the pooler starts from nothing as in the paper.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from recipes.nano.autoencoder import to_model
from recipes.nano.data import read_pixels
from recipes.nano.frozen import frozen_model
from recipes.nano.loop import Trainer
from recipes.nano.mosaic import LENGTH
from recipes.nano.presets import Preset
from recipes.nano.speech import TOLD, CaptionBank
from recipes.nano.start import started
from vilex.encoder import ViLexEncoder
from vilex.encoder.towers import patches_of
from vilex.errors import InputError
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
    encoder = _begun(preset, out, vocabulary).to(preset.device)
    table = out / "scenes.parquet"
    pixels, captions = read_pixels(table), CaptionBank(table, t2i.tokenizer, preset.t2i)
    length = min(LENGTH, encoder.config.num_tokens)
    told = min(sum(TOLD), length) if preset.t2i.told_share else 0
    trainer = Trainer("pooler", encoder, settings, preset, out, seed=preset.seed + 2, crew=preset.crew)
    for step in trainer:
        index = step.rows(len(pixels))
        shown = to_model(pixels[index.numpy()], preset.device)
        said = captions.said([captions.mosaic(place, length, told=bool(told)) for place in index.tolist()])
        words = said.vectors(vocabulary)[:, 1 : 1 + length] / encoder.pooler.std

        def losses(
            model: nn.Module, rows: slice, shown: Tensor = shown, words: Tensor = words
        ) -> tuple[Tensor, dict[str, Tensor]]:
            with trainer.autocast():
                patches = patches_of(model.tower, shown[rows])
                tokens = torch.cat([model.pooler(patches.detach(), told), model.pooler(patches, length)[:, told:]], 1)
            errors = (tokens.float() / model.pooler.std - words[rows]).square().mean((0, 2))
            parts = {"told": errors[:told], "cells": errors[told:]}
            values = {name: part.mean() for name, part in parts.items() if len(part)}
            return torch.stack(list(values.values())).sum(), values

        trainer.learn(losses)
    trainer.use_average()
    with replacing_folder(out / "pooler") as folder:
        encoder.save_pretrained(folder, safe_serialization=True)


def _begun(preset: Preset, out: Path, vocabulary: Tensor) -> ViLexEncoder:
    """A new pooler on the tower before ViLex, its tokens where words [V, d] are; going on, the encoder of `start`.

    Raises:
        InputError: to go on is asked for, and nothing is there.
    """
    if not preset.pooler.go_on:
        shape = {
            **pooler_settings(preset.vilex, vocabulary.shape[1]),
            "num_tokens": preset.vilex.model.num_tokens,
        }
        encoder = ViLexEncoder.from_tower(str(out / "tower"), **shape)
        encoder.pooler.match_vocabulary(vocabulary.cpu())
        return encoder
    start = started(out)
    if start is None:
        raise InputError(f"pooler.go_on: {out / 'start'} is missing; run stage start first, or leave pooler.go_on out")
    return ViLexEncoder.from_pretrained(start).float()
