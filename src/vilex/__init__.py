"""Visual Lexicon: images as words of a frozen text-to-image model (ViLex, CVPR 2025, arXiv 2412.06774)."""

from typing import Any

__version__ = "0.1.0"
__all__ = [
    "Guidance",
    "InputError",
    "ViLexConfig",
    "ViLexEncoder",
    "VisualLanguageModel",
    "VisualLexicon",
    "average",
    "load_tokens",
    "load_vlm",
    "save_tokens",
    "slerp",
]

_HOMES = {
    "Guidance": "vilex.guidance",
    "InputError": "vilex.errors",
    "ViLexConfig": "vilex.encoder",
    "ViLexEncoder": "vilex.encoder",
    "VisualLanguageModel": "vilex.understand.vlm",
    "VisualLexicon": "vilex.lexicon",
    "average": "vilex.tokens",
    "load_tokens": "vilex.tokens",
    "load_vlm": "vilex.understand.vlm_folder",
    "save_tokens": "vilex.tokens",
    "slerp": "vilex.tokens",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `vilex --help` need not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vilex' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
