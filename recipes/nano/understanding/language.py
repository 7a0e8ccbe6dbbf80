"""A small PaliGemma of transformers' own class, from scratch, and the words that it speaks.

A word, a sign or a digit is a token; `<loc>` and `<seg>` are words as PaliGemma's tokenizer has them. Its own vision
tower is a stub: every row of the tables sees by a linear map of its own, made alike, so that none has a head start.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import GemmaConfig, PaliGemmaConfig, PreTrainedTokenizerFast

from recipes.nano.presets import UnderstandingPreset
from vilex.understand.masks import special_words

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>"]
STUB = {
    "model_type": "siglip_vision_model", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
    "image_size": 16, "patch_size": 16, "intermediate_size": 8, "vision_use_head": False,
}  # fmt: skip


def make_language(texts: Iterable[str], settings: UnderstandingPreset, folder: Path) -> Path:
    """Write configuration and tokenizer, from which `model.scratch` makes random weights; returns the folder."""
    words = learn_words(texts, settings.least)
    words.save_pretrained(folder)
    text = GemmaConfig(
        vocab_size=len(words), hidden_size=settings.width, intermediate_size=settings.hidden,
        num_hidden_layers=settings.layers, num_attention_heads=settings.heads, num_key_value_heads=1,
        head_dim=settings.width // settings.heads, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    config = PaliGemmaConfig(
        vision_config=dict(STUB), text_config=text.to_dict(), projection_dim=settings.width,
        hidden_size=settings.width, image_token_index=words.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    config.save_pretrained(folder)
    return folder


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
