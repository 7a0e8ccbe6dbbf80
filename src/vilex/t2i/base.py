"""What ViLex asks of a frozen text-to-image model: a tokenizer and four verbs."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """What the denoiser reads beside x_t: the text encoder's features, [B, L, d]."""

    sequence: Tensor

    def __len__(self) -> int:
        return len(self.sequence)

    def select(self, rows: slice | Tensor) -> "Condition":
        return Condition(self.sequence[rows])

    @staticmethod
    def cat(conditions: list["Condition"]) -> "Condition":
        return Condition(torch.cat([condition.sequence for condition in conditions]))


class FrozenT2I(Protocol):
    """A frozen text-to-image model. Nothing in it ever receives a gradient or changes.

    Attributes:
        tokenizer: the family's own.
        vocabulary: the lookup matrix, [V, d].
        width: d, the width of the vocabulary's embeddings.
        positions: L, the text encoder's positions, [BOS] and [EOS] included (77 for CLIP).
        image_size: pixels a side.
        latent_shape: (c, h, w) of x0.
        scheduler_config: the model's own diffusers scheduler configuration.
        prediction_type: `epsilon` or `v_prediction`.
    """

    tokenizer: Any
    vocabulary: Tensor
    width: int
    positions: int
    image_size: int
    latent_shape: tuple[int, int, int]
    scheduler_config: dict[str, Any]
    prediction_type: str
    device: torch.device

    def embed(self, ids: Tensor) -> Tensor:
        """Look words up: ids [B, L] -> embeddings [B, L, d]."""

    def condition(self, ids: Tensor, embeddings: Tensor) -> Condition:
        """Run the text encoder on embeddings [B, L, d]; ids [B, L] still tell it where [EOS] is."""

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The denoiser: x_t [B, c, h, w], t [B] -> noise or velocity, [B, c, h, w]."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in -1..1 -> x0 [B, c, h, w]."""

    def decode(self, x0: Tensor) -> Tensor:
        """x0 [B, c, h, w] -> pixels [B, 3, H, W], about -1..1."""
