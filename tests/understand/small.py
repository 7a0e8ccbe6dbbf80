"""Tiny random vision-language models of the real classes, with a tokenizer of whole words."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import (
    GemmaConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

WORDS = "caption answer en a red blue green yellow square round what colour is this where left right top bottom yes no"
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>"]
VISION = {
    "model_type": "siglip_vision_model", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "image_size": 32, "patch_size": 8, "intermediate_size": 64, "vision_use_head": False,
}  # fmt: skip
TEXT = {
    "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    """A word a token; the newline is one of its own, and so are the characters of unknown words."""
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789?.,"]
    words = {word: i for i, word in enumerate([*SPECIAL, "\n", *WORDS.split(), *letters])}
    words = {word: i for i, word in enumerate(words)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    inner.add_special_tokens([AddedToken(word, normalized=False) for word in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )


def paligemma(folder: Path, seed: int = 0, published: bool = False, **vision) -> Path:
    """A PaliGemma's folder; `published` with the key names of the files on the hub."""
    words = tokenizer()
    torch.manual_seed(seed)
    config = PaliGemmaConfig(
        vision_config={**VISION, **vision},
        text_config=GemmaConfig(vocab_size=len(words), **TEXT).to_dict(),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        projection_dim=TEXT["hidden_size"],
        hidden_size=TEXT["hidden_size"],
    )
    model = PaliGemmaForConditionalGeneration(config)
    _stir(model)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    if published:
        path = folder / "model.safetensors"
        old, new = "vision_tower.", "vision_tower.vision_model."
        save_file({key.replace(old, new): value for key, value in load_file(path).items()}, path, {"format": "pt"})
    return folder


def llama(folder: Path, seed: int = 0) -> Path:
    """A decoder-only language model's folder."""
    words = tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=len(words), **TEXT, tie_word_embeddings=True)
    model = LlamaForCausalLM(config)
    _stir(model)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@torch.no_grad()
def _stir(model):
    """Weights of a spread that lets every layer speak; transformers' own, 0.02, is for a width of 2048."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            parameter.mul_(5 if "embed_tokens" in name else 15)
        else:
            parameter.add_(torch.randn_like(parameter) * 0.1)
