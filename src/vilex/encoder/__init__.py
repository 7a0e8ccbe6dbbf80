"""The image's way into the vocabulary: tower, pooler, and both as one transformers model."""

from vilex.encoder.config import ViLexConfig
from vilex.encoder.loading import EMBEDDED, encoder_folder, load_encoder
from vilex.encoder.model import ViLexEncoder, ViLexOutput

__all__ = ["EMBEDDED", "ViLexConfig", "ViLexEncoder", "ViLexOutput", "encoder_folder", "load_encoder"]
