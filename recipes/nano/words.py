"""Stage 3, words: the text encoder learns to remember its sentence before it must describe pictures.

CLIP's text encoder comes pre-trained: its states at [EOS] and after know the whole sentence. A random
one's do not, and a denoiser that attends to 77 positions of which 70 are padding then finds colours
but no nouns. So each state after the sentence is first asked which words came before it, rare words
counting more.
"""

from pathlib import Path

import pyarrow.parquet
import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from recipes.nano.loop import Trainer
from recipes.nano.presets import Preset
from recipes.nano.tokenizer import POSITIONS


def train_words(text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, preset: Preset, table: Path, out: Path) -> None:
    """Train `text_encoder` in place on a table's short captions."""
    settings = preset.words
    rows = pyarrow.parquet.read_table(table, columns=["captions"])["captions"].to_pylist()
    captions = sorted({caption for row in rows for caption in row})
    ids = torch.tensor(
        tokenizer(captions, padding="max_length", truncation=True, max_length=POSITIONS).input_ids, dtype=torch.int16
    )
    vocabulary = len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id
    heard = sum(words_said(part.long(), *vocabulary).sum(0) for part in ids.split(2048))
    rarity = torch.log(len(ids) / heard.clamp_min(1))
    torch.manual_seed(preset.seed)
    head = nn.Linear(text_encoder.config.hidden_size, len(tokenizer)).to(preset.device)
    trainer = Trainer("words", nn.ModuleList([text_encoder, head]), settings, preset, out, warmup=30, seed=preset.seed)
    for step in trainer:
        index = step.rows(len(ids))
        rows = ids[index].long().to(preset.device)
        with trainer.autocast():
            states = text_encoder(rows).last_hidden_state
            end = (rows == tokenizer.eos_token_id).int().argmax(1)
            places = torch.stack([end, (end + POSITIONS - 1) // 2, torch.full_like(end, POSITIONS - 1)], dim=1)
            picked = states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]))
            said = head(picked).float().log_softmax(-1)
        target = (words_said(rows.cpu(), *vocabulary) * rarity).to(preset.device)
        target = target / target.sum(1, keepdim=True).clamp_min(1e-6)
        trainer.update(-(target[:, None] * said).sum(-1).mean())
    trainer.use_average()


def words_said(ids: Tensor, vocabulary: int, *specials: int) -> Tensor:
    """ids [N, L] -> [N, vocabulary], 1 where a sentence has the word; special tokens never count."""
    said = torch.zeros(len(ids), vocabulary).scatter_(1, ids, 1.0)
    said[:, list(specials)] = 0
    return said
