"""What ViLex asks of a frozen text-to-image model: to read prompts, to predict, to encode and to decode."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vilex.prompt import Frame, Prompt


@dataclass(frozen=True)
class Condition:
    """What the denoiser reads beside x_t.

    Attributes:
        sequence: the text encoders' features, [B, L, d].
        pooled: one vector for the whole prompt, [B, p], where a family has it.
        lengths: [B] on the CPU, how much of the sequence is the prompt's, where a family reads no padding.
        image: image tokens that go past the text encoder, [B, n, d]; see `vilex.t2i.ip_adapter`.
        adapter: what reads them there.
    """

    sequence: Tensor
    pooled: Tensor | None = None
    lengths: Tensor | None = None
    image: Tensor | None = None
    adapter: nn.ModuleList | None = None

    def __len__(self) -> int:
        return len(self.sequence)

    def unpadded(self) -> Tensor | list[Tensor]:
        """The sequence; where a family reads no padding, each prompt's own part of it, a list of B [L_i, d]."""
        if self.lengths is None:
            return self.sequence
        return [row[:length] for row, length in zip(self.sequence, self.lengths.tolist(), strict=True)]

    def cross_attention_kwargs(self, dtype: torch.dtype) -> dict[str, Any] | None:
        """A U-Net's: image tokens [B, n, d] that its layers read beside the sequence, and by which adapter."""
        return None if self.image is None else {"ip_hidden_states": (self.adapter, self.image.to(dtype))}

    def select(self, rows: slice | Tensor) -> "Condition":
        """The conditions of some rows, by a slice or by indices [M]."""

        def of(value: Tensor) -> Tensor:
            return value[rows if isinstance(rows, slice) else rows.to(value.device)]

        values = {field.name: getattr(self, field.name) for field in fields(self)}
        chosen: dict[str, Any] = {name: of(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **chosen)


class FrozenT2I(Protocol):
    """A frozen text-to-image model. Nothing in it ever receives a gradient or changes.

    Attributes:
        frame: how its (first) text encoder frames a prompt.
        lookups: its text encoders' lookup matrices, [V, d_i] each.
        width: d, the width of an image token: the sum of all d_i, for a token is a word to every text encoder.
        image_size: pixels a side.
        latent_shape: (c, h, w) of x0.
        scheduler_config: the model's own diffusers scheduler configuration.
        prediction_type: `epsilon`, `v_prediction` or `flow`.
        turn: held by whoever uses the model; several threads may hold it at once unless its parts wait elsewhere and
            come when they are called, which only one request at a time can make them do.
    """

    image_size: int
    latent_shape: tuple[int, int, int]
    scheduler_config: dict[str, Any]
    prediction_type: str
    turn: AbstractContextManager[Any]

    @property
    def frame(self) -> Frame: ...
    @property
    def lookups(self) -> tuple[Tensor, ...]: ...
    @property
    def width(self) -> int: ...
    @property
    def device(self) -> torch.device: ...

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        """What B prompts say, with their images' tokens [n, d] by name in place; gradients flow to the tokens."""

    def prepare(self, scheduler: Any, steps: int) -> None:
        """Set a diffusers scheduler's timesteps as the family's own pipeline does."""

    def shifted(self, level: Tensor) -> Tensor:
        """A flow model's share of noise for a share of its levels, both [B] in 0..1."""

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The denoiser: x_t [B, c, h, w], t [B] -> noise, velocity or flow, [B, c, h, w].

        Where it learns a variance too, that follows in further channels.
        """

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in -1..1 -> x0 [B, c, h, w]."""

    def decode(self, x0: Tensor) -> Tensor:
        """x0 [B, c, h, w] -> pixels [B, 3, H, W], about -1..1."""
