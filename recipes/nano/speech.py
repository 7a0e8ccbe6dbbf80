"""What is said of a picture while the text-to-image model learns: a caption, a mosaic, both, blended, or nothing."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from recipes.nano.mosaic import LENGTH, LEVEL_ENDS
from recipes.nano.presets import TextToImagePreset
from recipes.nano.tokenizer import POSITIONS

ROOM = POSITIONS - 2  # beside [BOS] and [EOS]
NAME_SHARE = 0.4  # of the captions that are not dense; the others are sentences
BLENDS = (1, 2, 4, 8)  # vectors that a blended caption is said in


@dataclass(frozen=True)
class Said:
    """One batch's sentences.

    Attributes:
        ids: [B, 77], padded with [EOS] as CLIP's tokenizer does.
        words: [B, 77], what is looked up: the same but where words are blended.
        blend: [B, 77, 77] or None: each position's vector is a weighted sum of the vectors of `words`.
    """

    ids: Tensor
    words: Tensor
    blend: Tensor | None = None

    def __getitem__(self, rows: slice) -> "Said":
        return Said(self.ids[rows], self.words[rows], None if self.blend is None else self.blend[rows])


class CaptionBank:
    """A table's captions as token ids; `draw` says of each row a mosaic, a caption, one after the other, or nothing.

    A mosaic is cut anywhere, most often at the end of a level, so that its first words learn to say most.
    """

    def __init__(self, table: Path, tokenizer: CLIPTokenizer, settings: TextToImagePreset):
        columns = pyarrow.parquet.read_table(table, columns=["captions", "mosaic"])
        captions = columns["captions"].to_pylist()
        flat = iter(tokenizer([one for row in captions for one in row], add_special_tokens=False).input_ids)
        self.captions = [[np.array(next(flat), dtype=np.int16) for _ in row] for row in captions]
        mosaics = tokenizer(columns["mosaic"].to_pylist(), add_special_tokens=False).input_ids
        self.mosaics = np.array(mosaics, dtype=np.int16)
        self.ends = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.settings = settings

    def draw(self, index: Tensor, rng: np.random.Generator, whole_mosaics: bool = False) -> Said:
        """What is said of the rows `index`, [B]."""
        bos, eos = self.ends
        share = self.settings.blend_share
        words = np.full((len(index), POSITIONS), eos)
        ids = words.copy()
        blend = (
            np.broadcast_to(np.eye(POSITIONS, dtype=np.float32), (len(index), POSITIONS, POSITIONS)).copy()
            if share
            else None
        )
        for i, place in enumerate(index.tolist()):
            said = self.mosaics[place] if whole_mosaics else self._say(place, rng)[:ROOM]
            words[i, : len(said) + 1] = ids[i, : len(said) + 1] = [bos, *said]
            if blend is not None and len(said) > 1 and not whole_mosaics and rng.random() < share:
                groups = _groups(len(said), int(rng.choice(BLENDS)), rng)
                ids[i], blend[i] = _blended(said, groups, bos, eos)
        return Said(torch.from_numpy(ids), torch.from_numpy(words), None if blend is None else torch.from_numpy(blend))

    def rarity(self, vocabulary: int) -> Tensor:
        """[vocabulary] what each word tells, in nats: the logarithm of one over the share of captions that have it."""
        heard, count = np.zeros(vocabulary), 0
        for row in self.captions:
            for caption in row:
                heard[np.unique(caption)] += 1
                count += 1
        return torch.from_numpy(np.log(count / np.maximum(heard, 1))).float()

    def _say(self, place: int, rng: np.random.Generator) -> np.ndarray:
        chance = rng.random()
        if chance < self.settings.empty_share:
            return np.array([], dtype=np.int16)
        captions = self.captions[place]
        if len(captions) > 2 and rng.random() < self.settings.dense_share:
            caption = captions[2]
        else:
            caption = captions[0 if rng.random() < NAME_SHARE else 1]
        if chance > self.settings.empty_share + self.settings.mosaic_share:
            return caption
        mosaic = self.mosaics[place, : self._mosaic_length(rng)]
        fits = len(mosaic) + len(caption) <= ROOM
        return np.concatenate([mosaic, caption]) if fits and rng.random() < 0.5 else mosaic

    def _mosaic_length(self, rng: np.random.Generator) -> int:
        if rng.random() < 0.4:
            return int(rng.integers(1, LENGTH + 1))
        return int(rng.choice(LEVEL_ENDS, p=(0.1, 0.15, 0.3, 0.45)))


def _groups(words: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """[words] numbers of the group each word is in: neighbours, at most `most` groups."""
    cuts = np.sort(rng.choice(np.arange(1, words), min(most, words) - 1, replace=False))
    return np.searchsorted(cuts, np.arange(words), side="right")


def _blended(said: np.ndarray, groups: np.ndarray, bos: int, eos: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids [77] of a sentence with one position a group, and the weights [77, 77] that sum its words' vectors.

    A sum of k vectors is scaled by the root of k, which leaves it as long as one where they are orthogonal.
    """
    count = groups[-1] + 1
    ids, weights = np.full(POSITIONS, eos), np.zeros((POSITIONS, POSITIONS), dtype=np.float32)
    ids[0], ids[1 : count + 1] = bos, said[np.searchsorted(groups, np.arange(count))]
    weights[0, 0] = 1
    weights[1 + groups, 1 + np.arange(len(said))] = 1 / np.sqrt(np.bincount(groups))[groups]
    weights[count + 1 :, len(said) + 1] = 1  # [EOS]
    return ids, weights


def read(text_encoder: CLIPTextModel, said: Said, device: str) -> Tensor:
    """The text encoder's states, [B, 77, d]; blended vectors enter by a hook on its lookup."""
    if said.blend is None:
        return text_encoder(said.ids.to(device)).last_hidden_state
    table = text_encoder.get_input_embeddings()
    blended = said.blend.to(device) @ table(said.words.to(device))
    hook = table.register_forward_hook(lambda *_: blended)
    try:
        return text_encoder(said.ids.to(device)).last_hidden_state
    finally:
        hook.remove()
