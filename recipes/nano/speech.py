"""What is said of a picture while the text-to-image model learns: a caption, a mosaic, both, blended, or nothing.

What is said is a row of groups of words, one group a position. Most are of one word; a blended group is a sum of its
words' vectors, in which each weighs what it tells. So the model hears early what image tokens will be to it: few
vectors that say many things each.
"""

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
TOLD = (1, 3)  # vectors of a told mosaic's caption: all of it in one, then in three; they stand for its first words


@dataclass(frozen=True)
class Said:
    """One batch's sentences.

    Attributes:
        ids: [B, 77], padded with [EOS] as CLIP's tokenizer does; a blended group's is its first word.
        words: [B, L], what is looked up.
        blend: [B, 77, L] or None: each position's vector is a weighted sum of the vectors of `words`.
    """

    ids: Tensor
    words: Tensor
    blend: Tensor | None = None

    def __getitem__(self, rows: slice) -> "Said":
        return Said(self.ids[rows], self.words[rows], None if self.blend is None else self.blend[rows])

    def vectors(self, table: Tensor) -> Tensor:
        """[B, 77, d] of a table of words' vectors [V, d]."""
        found = table[self.words.to(table.device)]
        return found if self.blend is None else self.blend.to(table) @ found


class CaptionBank:
    """A table's captions as token ids; `draw` says of each row a mosaic, a caption, one after the other, or nothing.

    A mosaic is cut anywhere, most often at the end of a level, so that its first words learn to say most. Of a told
    mosaic the first words, which say the whole and its quarters, give way to the dense caption in `TOLD` vectors: what
    is shown comes first, and where its colours lie follows.
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
        self.rarity = self._rarity(len(tokenizer))

    def draw(self, index: Tensor, rng: np.random.Generator, whole_mosaics: bool = False) -> Said:
        """What is said of the rows `index`, [B]."""
        rows = [self.mosaic(place) if whole_mosaics else self._say(place, rng)[:ROOM] for place in index.tolist()]
        return self.said(rows)

    def said(self, rows: list[list[np.ndarray]]) -> Said:
        """Rows of groups of words, at most `ROOM` each, as one batch."""
        bos, eos = self.ends
        ids = np.full((len(rows), POSITIONS), eos)
        for i, groups in enumerate(rows):
            ids[i, : len(groups) + 1] = [bos, *(group[0] for group in groups)]
        if all(len(group) == 1 for groups in rows for group in groups):
            return Said(torch.from_numpy(ids), torch.from_numpy(ids))
        most = max(sum(map(len, groups)) for groups in rows)
        words = np.full((len(rows), most + 2), eos)
        blend = np.zeros((len(rows), POSITIONS, most + 2), dtype=np.float32)
        for i, groups in enumerate(rows):
            words[i, 0] = bos
            blend[i, 0, 0] = 1
            place = 1
            for position, group in enumerate(groups, start=1):
                words[i, place : place + len(group)] = group
                blend[i, position, place : place + len(group)] = self._weights(group)
                place += len(group)
            blend[i, len(groups) + 1 :, -1] = 1  # [EOS]
        return Said(*(torch.from_numpy(part) for part in (ids, words, blend)))

    def mosaic(self, place: int, length: int = LENGTH, told: bool = False) -> list[np.ndarray]:
        """The first groups of a row's mosaic; told: beginning with its fullest caption in one vector and in three."""
        caption = self.captions[place][-1]
        first = [group for count in TOLD * told for group in np.array_split(caption, min(count, len(caption)))]
        return [*first, *_single(self.mosaics[place, len(first) :])][:length]

    def _weights(self, group: np.ndarray) -> np.ndarray:
        """Each word of a group weighs what it tells; their sum is as long as one vector where they are orthogonal."""
        tells = self.rarity[group] if len(group) > 1 and self.rarity[group].any() else np.ones(len(group))
        return tells / np.linalg.norm(tells)

    def _rarity(self, vocabulary: int) -> np.ndarray:
        """[vocabulary] what each word tells, in nats: the logarithm of one over the share of captions that have it."""
        heard, count = np.zeros(vocabulary), 0
        for row in self.captions:
            for caption in row:
                heard[np.unique(caption)] += 1
                count += 1
        return np.log(count / np.maximum(heard, 1)).astype(np.float32)

    def _say(self, place: int, rng: np.random.Generator) -> list[np.ndarray]:
        chance, settings = rng.random(), self.settings
        if chance < settings.empty_share:
            return []
        captions = self.captions[place]
        if len(captions) > 2 and rng.random() < settings.dense_share:
            caption = captions[2]
        else:
            caption = captions[0 if rng.random() < NAME_SHARE else 1]
        if chance > settings.empty_share + settings.mosaic_share:
            return self._maybe_blended(caption, rng)
        length = self._mosaic_length(rng)
        if rng.random() < settings.told_share:
            return self.mosaic(place, length, told=True)
        mosaic = self.mosaics[place, :length]
        fits = len(mosaic) + len(caption) <= ROOM
        return self._maybe_blended(np.concatenate([mosaic, caption]) if fits and rng.random() < 0.5 else mosaic, rng)

    def _maybe_blended(self, said: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        if len(said) > 1 and self.settings.blend_share and rng.random() < self.settings.blend_share:
            return _groups(said, int(rng.choice(BLENDS)), rng)
        return _single(said)

    def _mosaic_length(self, rng: np.random.Generator) -> int:
        if rng.random() < 0.4:
            return int(rng.integers(1, LENGTH + 1))
        return int(rng.choice(LEVEL_ENDS, p=(0.1, 0.15, 0.3, 0.45)))


def _single(said: np.ndarray) -> list[np.ndarray]:
    """Words as groups of one."""
    return list(said[:, None])


def _groups(said: np.ndarray, most: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Words in groups of neighbours, at most `most` of them, cut anywhere."""
    cuts = np.sort(rng.choice(np.arange(1, len(said)), min(most, len(said)) - 1, replace=False))
    return np.split(said, cuts)


def read(text_encoder: CLIPTextModel, said: Said, device: str) -> Tensor:
    """The text encoder's states, [B, 77, d]; blended vectors enter by a hook on its lookup."""
    if said.blend is None:
        return text_encoder(said.ids.to(device)).last_hidden_state
    table = text_encoder.get_input_embeddings()
    blended = said.vectors(table.weight)
    hook = table.register_forward_hook(lambda *_: blended)
    try:
        return text_encoder(said.ids.to(device)).last_hidden_state
    finally:
        hook.remove()
