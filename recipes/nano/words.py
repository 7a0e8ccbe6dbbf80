"""Stage 3, words: the text encoder learns what its sentences say and look like, before the U-Net asks it.

CLIP's text encoder comes pre-trained: its states at [EOS] and after know the whole sentence, and what is seen where it
is said. A random one's know neither, and the denoising loss teaches words slowly, for nearly all that it tells is about
noise: after 14,400 pictures a name still helps it as little as nothing said at all. So the encoder is first asked two
things, through linear heads that are thrown away:

memory      at three states after the sentence, which words came before; rare words count more
foresight   at each state, what the cell looks like that a mosaic's word at this position would tell (`mosaic.py`): the
            principal components that the auto-encoder's code begins with, so that the stage needs no auto-encoder

The U-Net then learns on mosaics which position means which cell, and finds a caption's picture in the same places.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.nano.autoencoder import PatchComponents, to_model
from recipes.nano.data import evenly_spaced, read_pixels
from recipes.nano.loop import Trainer
from recipes.nano.mosaic import LENGTH, cells_of
from recipes.nano.presets import Preset
from recipes.nano.speech import CaptionBank, read
from recipes.nano.text_encoder import new_text_encoder
from recipes.nano.tokenizer import POSITIONS, learn_tokenizer
from vilex.paths import replacing_folder
from vilex.t2i.attention import use_plain_attention

BATCH = 256  # pictures coded at once


class Heads(nn.Module):
    """What the encoder is asked through, from a state [.., d]: words [.., vocabulary], a cell's components [.., c]."""

    def __init__(self, width: int, vocabulary: int, channels: int):
        super().__init__()
        self.words, self.cell = nn.Linear(width, vocabulary), nn.Linear(width, channels)


def train_words(preset: Preset, out: Path) -> None:
    """Train a text encoder on what is said of the scenes; save it and its tokenizer to `out`/words."""
    settings, table = preset.words, out / "scenes.parquet"
    tokenizer = learn_tokenizer(table)
    captions = CaptionBank(table, tokenizer, preset.t2i)
    codes = codes_of(read_pixels(table), preset.autoencoder.latent_channels, preset.device)
    deviation = cells_of(codes[evenly_spaced(len(codes))].float()).std(0).mean(1, keepdim=True)  # [LENGTH, 1]
    specials = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    rarity = torch.from_numpy(captions.rarity).to(preset.device)
    torch.manual_seed(preset.seed)
    text_encoder = new_text_encoder(tokenizer, preset.t2i).to(preset.device)
    use_plain_attention(text_encoder)
    heads = Heads(text_encoder.config.hidden_size, len(tokenizer), codes.shape[1]).to(preset.device)
    model = nn.ModuleDict({"text_encoder": text_encoder, "heads": heads})
    trainer = Trainer("words", model, settings, preset, out, warmup=settings.warmup, seed=preset.seed)
    for step in trainer:
        index = step.rows(len(codes))
        said = captions.draw(index, step.rng)
        seen = (cells_of(codes[index].float()) / deviation).to(preset.device)
        with trainer.autocast():
            states = read(text_encoder, said, preset.device)
            foreseen = heads.cell(states[:, 1 : 1 + LENGTH])
            remembered = heads.words(after(states, said.ids, tokenizer.eos_token_id)).float().log_softmax(-1)
        target = words_said(said.words, len(tokenizer), specials).to(preset.device) * rarity
        target = target / target.sum(1, keepdim=True).clamp_min(1e-6)
        memory = -(target[:, None] * remembered).sum(-1).mean()
        foresight = F.mse_loss(foreseen.float(), seen)
        loss = settings.foresight * foresight + settings.memory * memory
        trainer.update(loss, foresight=foresight, memory=memory)
    trainer.use_average()
    with replacing_folder(out / "words") as folder:
        text_encoder.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)


@torch.no_grad()
def codes_of(pixels: np.ndarray, channels: int, device: str) -> Tensor:
    """Pictures' patch components, [N, channels, 8, 8] in half precision."""
    components = PatchComponents(pixels[evenly_spaced(len(pixels))], channels).to(device)
    parts = (pixels[i : i + BATCH] for i in range(0, len(pixels), BATCH))
    return torch.cat([components(to_model(part, device)).half().cpu() for part in parts])


def after(states: Tensor, ids: Tensor, eos: int) -> Tensor:
    """Three states of each sentence, [B, 3, d]: at its end, at the last position, and halfway between."""
    end = (ids == eos).int().argmax(1)
    places = torch.stack([end, (end + POSITIONS - 1) // 2, torch.full_like(end, POSITIONS - 1)], dim=1)
    return states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]).to(states.device))


def words_said(ids: Tensor, vocabulary: int, specials: list[int]) -> Tensor:
    """ids [N, L] -> [N, vocabulary], 1 where a sentence has the word; special tokens never count."""
    said = torch.zeros(len(ids), vocabulary).scatter_(1, ids, 1.0)
    said[:, specials] = 0
    return said
