"""What ViLex asks of a frozen text-to-image model: a tokenizer and four verbs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from vilex.prompt import Prompt


@dataclass(frozen=True)
class Condition:
    """What the denoiser reads beside x_t.

    Attributes:
        sequence: the text encoder's features, [B, L, d].
        image: image tokens that go past the text encoder, [B, n, d]; see `vilex.t2i.decoupled`.
    """

    sequence: Tensor
    image: Tensor | None = None

    def __len__(self) -> int:
        return len(self.sequence)

    def select(self, rows: slice | Tensor) -> "Condition":
        return Condition(self.sequence[rows], None if self.image is None else self.image[rows])


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

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        """What B prompts say, with their images' tokens [n, d] by name in place; gradients flow to the tokens."""

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The denoiser: x_t [B, c, h, w], t [B] -> noise or velocity, [B, c, h, w]."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in -1..1 -> x0 [B, c, h, w]."""

    def decode(self, x0: Tensor) -> Tensor:
        """x0 [B, c, h, w] -> pixels [B, 3, H, W], about -1..1."""
