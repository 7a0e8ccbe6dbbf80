"""Whatever looks at a picture, under one name: a ViLex encoder, tower and pooler, or a vision model by itself."""

from dataclasses import dataclass
from typing import Any

from vilex.encoder.loading import load_encoder
from vilex.encoder.model import ViLexEncoder
from vilex.encoder.pooler import AttentionPooler
from vilex.encoder.preprocess import Preprocess
from vilex.encoder.towers import load_tower, patch_width, tower_image_size, tower_normalization
from vilex.errors import InputError
from vilex.hub.folder import read_json, resolve


@dataclass(frozen=True)
class Eyes:
    """A frozen tower, what makes its input, and its pooler if it has one.

    Attributes:
        name: what an error calls them.
        encoder: the ViLex encoder that tower and pooler are of; None for a vision model by itself.
    """

    name: str
    tower: Any
    preprocess: Preprocess
    encoder: ViLexEncoder | None = None

    @classmethod
    def of_encoder(cls, encoder: ViLexEncoder, name: str = "encoder") -> "Eyes":
        """An encoder's own, frozen."""
        encoder.requires_grad_(False).eval()
        return cls(name, encoder.tower, encoder.preprocessing, encoder)

    @classmethod
    def of_tower(cls, tower: Any, preprocess: Preprocess, name: str = "tower") -> "Eyes":
        """A vision model by itself, frozen."""
        return cls(name, tower.requires_grad_(False).eval(), preprocess)

    @property
    def pooler(self) -> AttentionPooler:
        """What makes tokens of patches.

        Raises:
            InputError: there is none.
        """
        if self.encoder is None:
            raise InputError(f"{self.name}: a vision model without a pooler, so it has no tokens; give a ViLex encoder")
        return self.encoder.pooler

    @property
    def width(self) -> int:
        """D, of the patches."""
        return patch_width(self.tower)


def load_eyes(name: str) -> Eyes:
    """A ViLex encoder or a vision model, by its folder, hub id or embedded name.

    Raises:
        InputError: there is no such model, or it cannot be loaded.
    """
    if not name.startswith("open_clip:"):
        folder = resolve(name, weights=False)
        if read_json(folder / "config.json").get("model_type") == "vilex":
            return Eyes.of_encoder(load_encoder(name), name)
    tower = load_tower(name)
    how = tower_normalization(name, tower)
    return Eyes.of_tower(tower, Preprocess(tower_image_size(tower), how["image_mean"], how["image_std"]), name)
