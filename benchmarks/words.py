"""Small tokenizers in the classes of the published ones: letters and a few whole words."""

from transformers import CLIPTokenizer, GemmaTokenizer, Qwen2Tokenizer, T5TokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

WORDS = ("cat", "dog", "snow", "photo", "style", "the", "in", "of", "flat", "and", "red")


def clip_words(pad_token: str = "<|endoftext|>") -> CLIPTokenizer:
    """CLIP's byte-level BPE with a few whole words."""
    alphabet = list(bytes_to_unicode().values())
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(merge) for merge in merges)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*words, "<|startoftext|>", "<|endoftext|>"]))}
    return CLIPTokenizer(vocab=vocabulary, merges=list(dict.fromkeys(merges)), model_max_length=77, pad_token=pad_token)


def t5_words() -> T5TokenizerFast:
    """A tokenizer of letters and a few words in T5's own class: no [BOS], </s> at the end."""
    letters = [chr(i) for i in range(33, 127)]
    pieces = ["<pad>", "</s>", "<unk>", "▁", *letters, *(f"▁{word}" for word in WORDS)]
    return T5TokenizerFast(vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)], extra_ids=0)


def gemma_words() -> GemmaTokenizer:
    """Gemma's BPE of letters and a few whole words, each with and without its space; [BOS], no [EOS]."""
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        merges += [(word[:end], word[end]) for end in range(1, len(word))]
    merges += [("▁", word) for word in WORDS]
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = ["▁", "\n", *(chr(i) for i in range(33, 127)), *(f"<0x{i:02X}>" for i in range(256))]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys([*specials, *letters, *map("".join, merges)]))}
    return GemmaTokenizer(vocab=vocabulary, merges=list(dict.fromkeys(merges)), add_bos_token=True)


def qwen_words() -> Qwen2Tokenizer:
    """Byte-level BPE of letters and a few whole words, with a chat template of Qwen's kind."""
    letters = list(bytes_to_unicode().values())
    merges, pieces = [], []
    for parts in (*(["Ġ", *word] for word in WORDS), *map(list, WORDS)):  # with its space first
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts = [parts[0] + parts[1], *parts[2:]]
            pieces.append(parts[0])
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys([*letters, *pieces, *specials]))}
    words = Qwen2Tokenizer(vocab=vocabulary, merges=list(dict.fromkeys(merges)))
    words.add_special_tokens({"additional_special_tokens": specials[1:]})
    words.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return words
