"""The nano model's CLIP tokenizer: CLIP's own byte-level BPE, its merges learnt from the captions."""

import json
from pathlib import Path

import pyarrow.parquet
from tokenizers import Tokenizer, models, trainers
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from recipes.nano.mosaic import word_parts

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
POSITIONS = 77


def learn_tokenizer(table: Path) -> CLIPTokenizer:
    """Every word of the captions and every mosaic word becomes one token; any other text falls back to its bytes."""
    rows = pyarrow.parquet.read_table(table, columns=["captions"])["captions"].to_pylist()
    captions = {caption for row in rows for caption in row} | set(word_parts())
    clip = CLIPTokenizer()
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = clip.backend_tokenizer.normalizer
    learner.pre_tokenizer = clip.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=20_000, end_of_word_suffix="</w>", show_progress=False)
    learner.train_from_iterator(sorted(captions), trainer)
    merges = [tuple(merge) for merge in _merges(learner)]
    alphabet = list(bytes_to_unicode().values())
    words = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(merge) for merge in merges] + [BOS, EOS]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=POSITIONS)


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
