"""What image tokens say: the words of the vocabulary that are nearest to them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vilex.errors import InputError
from vilex.lexicon import VisualLexicon

CHUNK = 16384  # rows of the vocabulary that are compared at once


@dataclass(frozen=True)
class Word:
    """A piece of the vocabulary, and the cosine between its embedding and a token."""

    text: str
    cosine: float


@torch.inference_mode()
def nearest_words(lexicon: VisualLexicon, tokens: Tensor, count: int = 5) -> list[list[Word]]:
    """The `count` nearest words to each token by cosine in the text encoder's lookup, nearest first.

    Where a family has several text encoders, in the first one's columns.

    Args:
        tokens: [n, d].
    Raises:
        InputError: the tokens go past the text encoder.
    """
    if lexicon.encoder.adapter is not None:
        raise InputError("ip-adapter tokens go past the text encoder; no words are near them")
    encoder = lexicon.t2i.encoders[0]
    tokenizer, table = encoder.frame.tokenizer, encoder.lookup
    own = F.normalize(tokens[:, : encoder.width].float(), dim=-1).cpu()
    cosines = torch.cat(
        [own @ F.normalize(table[i : i + CHUNK].float(), dim=-1).cpu().T for i in range(0, len(table), CHUNK)], dim=1
    )
    cosines[:, [i for i in tokenizer.all_special_ids if i < len(table)]] = -1
    cosines[:, len(tokenizer) :] = -1  # rows that pad the table
    best = cosines.topk(count)
    return [
        [Word(_plain(tokenizer, int(i)), float(value)) for value, i in zip(values, ids, strict=True)]
        for values, ids in zip(best.values, best.indices, strict=True)
    ]


def _plain(tokenizer: Any, index: int) -> str:
    """A piece of the vocabulary as one reads it; a hyphen stands where the word goes on."""
    piece = tokenizer.convert_ids_to_tokens(index)
    text = tokenizer.decode([index]).strip() or piece
    if tokenizer.convert_tokens_to_ids("a</w>") not in (None, tokenizer.unk_token_id):  # CLIP marks a word's end
        return text if piece.endswith("</w>") else f"{text}-"
    return text if piece[:1] in "▁Ġ" else f"-{text}"
