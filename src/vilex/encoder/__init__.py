"""The image's way into the vocabulary: tower, pooler, and both as one transformers model."""

from vilex.encoder.config import ViLexConfig
from vilex.encoder.model import ViLexEncoder, ViLexOutput

__all__ = ["ViLexConfig", "ViLexEncoder", "ViLexOutput"]
