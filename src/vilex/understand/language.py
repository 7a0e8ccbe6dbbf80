"""A small PaliGemma of transformers' own class, from scratch, and the words that it speaks.

A word, a sign or a digit is a token; `<loc>` and `<seg>` are words as PaliGemma's tokenizer has them. Its own vision
tower is a stub: what looks is an encoder, whose features a projector of the run's own maps to the width.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import GemmaConfig, PaliGemmaConfig, PreTrainedTokenizerFast

from vilex.errors import InputError
from vilex.understand.masks import special_words

CONFIG = "config.json"
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>"]
STUB = {
    "model_type": "siglip_vision_model", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
    "image_size": 16, "patch_size": 16, "intermediate_size": 8, "vision_use_head": False,
}  # fmt: skip


@dataclass(frozen=True)
class LanguageConfig:
    """The model's shape; the numbers given make two million parameters with a thousand words.

    Attributes:
        width: of a token, a multiple of twice `heads` (rotary positions turn pairs). hidden: of the MLPs, gated.
        least: times that a word must occur to be one.
    """

    width: int = 192
    layers: int = 4
    heads: int = 4
    hidden: int = 512
    least: int = 2

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise InputError(
                f"width: {self.width} is no multiple of {2 * self.heads}, twice the heads; give one that is"
            )


def refuse_weights(folder: Path) -> None:
    """Raise InputError if a folder holds a model's weights, to which another configuration would not belong."""
    if weights := sorted(folder.glob("*.safetensors")):
        raise InputError(f"{weights[0]}: weights of a model; give another folder with -o")


def make_language(texts: Iterable[str], folder: Path, config: LanguageConfig | None = None) -> PreTrainedTokenizerFast:
    """Write configuration and tokenizer, from which `model.scratch` makes random weights; returns the tokenizer.

    Args:
        texts: questions and answers, as they will be learnt.
    """
    config = config or LanguageConfig()
    words = learn_words(texts, config.least)
    text = GemmaConfig(
        vocab_size=len(words), hidden_size=config.width, intermediate_size=config.hidden,
        num_hidden_layers=config.layers, num_attention_heads=config.heads, num_key_value_heads=1,
        head_dim=config.width // config.heads, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    whole = PaliGemmaConfig(
        vision_config=dict(STUB), text_config=text.to_dict(), projection_dim=config.width,
        hidden_size=config.width, image_token_index=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".language-") as aside:
        words.save_pretrained(aside)
        whole.save_pretrained(aside)
        for path in sorted(Path(aside).iterdir(), key=lambda one: one.name == CONFIG):  # it comes last: all is there
            os.replace(path, folder / path.name)
    return words


def learn_words(texts: Iterable[str], least: int) -> PreTrainedTokenizerFast:
    """A tokenizer of the words that occur `least` times, from whose ids texts come back; any other is `<unk>`."""
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    lower = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(Regex(" +"), " ")])
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in splitter.pre_tokenize_str(lower.normalize_str(text)))
    newline = splitter.pre_tokenize_str("\n")
    kept = sorted({word for word, count in counts.items() if count >= least} | {word for word, _ in newline})
    digits = [*"0123456789", "▁"]
    words = [*SPECIAL, *dict.fromkeys([*digits, *kept]), *special_words()]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.normalizer, inner.pre_tokenizer, inner.decoder = lower, splitter, decoders.Metaspace()
    inner.add_special_tokens([AddedToken(word, normalized=False) for word in SPECIAL])
    inner.add_tokens([AddedToken(word, normalized=False) for word in special_words()])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )


def measure_texts(words: PreTrainedTokenizerFast, texts: Sequence[str]) -> dict[str, int]:
    """`longest`, the most tokens of a text, and `unknown`, how many texts hold a word that is none."""
    ids = words(list(texts), add_special_tokens=False).input_ids
    return {"longest": max(map(len, ids)), "unknown": sum(words.unk_token_id in one for one in ids)}
