"""ViLexEncoder: tower and pooler as one transformers model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from vilex.encoder.config import ViLexConfig
from vilex.encoder.dediffusion import WordPooler
from vilex.encoder.ip_adapter import DecoupledAttention
from vilex.encoder.pooler import AttentionPooler
from vilex.encoder.preprocess import Preprocess, square_by
from vilex.encoder.towers import (
    build_tower,
    load_tower,
    patch_width,
    patches_of,
    tower_image_size,
    tower_normalization,
    tower_settings,
)
from vilex.errors import InputError
from vilex.pictures.fit import Fit
from vilex.pictures.load import to_rgb


@dataclass
class ViLexOutput(ModelOutput):
    """tokens: [B, n, d] in the vocabulary space; patches: [B, P, D], the tower's own features."""

    tokens: Tensor | None = None
    patches: Tensor | None = None


class ViLexEncoder(PreTrainedModel):
    """Image to tokens: `tower` then `pooler` (ViLex, figure 2).

    Attributes:
        tower_waits: whether no gradient goes through the tower, as in the first stage of a run in two.
    """

    tower_waits = False

    config_class = ViLexConfig
    main_input_name = "pixel_values"
    base_model_prefix = "vilex"
    _supports_sdpa = True

    def __init__(self, config: ViLexConfig):
        super().__init__(config)
        self.tower = build_tower(config.tower)
        if config.method == "de-diffusion":
            self.pooler: AttentionPooler = WordPooler(config, patch_width(self.tower))
        else:
            self.pooler = AttentionPooler(config, patch_width(self.tower))
        self.adapter: DecoupledAttention | None = None
        if config.method == "ip-adapter":
            self.adapter = DecoupledAttention(config.adapter_shapes, config.num_tokens)
        self.post_init()

    @classmethod
    def from_tower(cls, name: str, **settings: Any) -> "ViLexEncoder":
        """A pre-trained tower under a new, random pooler; `settings` as in `ViLexConfig`."""
        tower = load_tower(name)
        own: dict[str, Any] = {"image_size": tower_image_size(tower), **tower_normalization(name, tower)}
        encoder = cls(ViLexConfig(tower=tower_settings(tower), **(own | settings)))
        encoder.tower.load_state_dict(tower.state_dict())
        return encoder

    def _init_weights(self, module: nn.Module) -> None:
        """Tower and pooler initialise themselves."""

    def forward(self, pixel_values: Tensor, num_tokens: int | None = None, noise: Tensor | None = None) -> ViLexOutput:
        """Encode images.

        Args:
            pixel_values: [B, 3, S, S], as from `preprocess`.
            num_tokens: how many leading tokens to compute; all n by default.
            noise: of `de-diffusion` in training, see `WordPooler.forward`.
        Raises:
            InputError: `num_tokens` is not within 1..n.
        """
        limit = self.config.num_tokens
        num_tokens = limit if num_tokens is None else num_tokens
        if not 1 <= num_tokens <= limit:
            raise InputError(f"expected 1 to {limit} tokens of an image, got {num_tokens}")
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.tower_waits):
            patches = patches_of(self.tower, pixel_values)
        tokens = self.pooler(patches, num_tokens) if noise is None else self.pooler(patches, num_tokens, noise)
        return ViLexOutput(tokens=tokens, patches=patches)

    @torch.no_grad()
    def encode(self, images: Sequence[Image.Image], num_tokens: int | None = None, fit: Fit | None = None) -> Tensor:
        """Pictures of any size and mode to their first `num_tokens` tokens, [B, num_tokens, d]; all n by default.

        Args:
            fit: how pictures that are not square are brought to the tower; its own way if None.
        Raises:
            InputError: as `forward`; or tokens are NaN or infinite, which damaged weights and half precision give.
        """
        tokens: Tensor = self(self.preprocess([to_rgb(image) for image in images], fit), num_tokens).tokens
        if not tokens.isfinite().all():
            raise InputError("the encoder's tokens are NaN or infinite; encode in float32, or fetch the model again")
        return tokens

    @property
    def preprocessing(self) -> Preprocess:
        """What makes the tower's input of pictures; it lives on the CPU and knows nothing of the encoder."""
        return self.preprocessing_by(self.config.fit)

    def preprocessing_by(self, fit: Fit) -> Preprocess:
        """The same, with pictures that are not square brought to it in one of the three ways."""
        return Preprocess(self.config.image_size, self.config.image_mean, self.config.image_std, square_by(fit))

    def preprocess(self, images: list[Image.Image], fit: Fit | None = None) -> Tensor:
        """RGB images to [B, 3, S, S] where the encoder is; see `Preprocess`."""
        return self.preprocessing_by(fit or self.config.fit)(images).to(self.device, self.dtype)
