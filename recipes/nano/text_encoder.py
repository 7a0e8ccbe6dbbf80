"""The text encoder before it has learnt anything: CLIP's class, small, with mosaics' words and places given."""

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from recipes.nano.mosaic import LENGTH, place_vectors, word_parts, word_vectors
from recipes.nano.presets import TextToImagePreset
from recipes.nano.tokenizer import POSITIONS


def new_text_encoder(tokenizer: CLIPTokenizer, settings: TextToImagePreset) -> CLIPTextModel:
    """Random but for the mosaics' words and places, which begin with `word_vectors` and `place_vectors`."""
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.text_width,
            intermediate_size=4 * settings.text_width,
            num_hidden_layers=settings.text_layers,
            num_attention_heads=settings.text_width // 48,
            max_position_embeddings=POSITIONS,
            hidden_act="gelu",  # one kernel; CLIP's own, x times a sigmoid, is three, a fifteenth of a step's profile
            projection_dim=settings.text_width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    table = text_encoder.get_input_embeddings().weight
    words = list(word_parts())
    generator = torch.Generator().manual_seed(0)
    vectors = word_vectors(words, settings.text_width, generator)
    (places,) = (p for name, p in text_encoder.named_parameters() if name.endswith("position_embedding.weight"))
    with torch.no_grad():
        places[1 : 1 + LENGTH] = place_vectors(settings.text_width, generator) * places.std()
        table[tokenizer.convert_tokens_to_ids([word + "</w>" for word in words])] = vectors * table.std()
    return text_encoder
