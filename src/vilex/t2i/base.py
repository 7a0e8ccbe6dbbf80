"""What ViLex asks of a frozen text-to-image model: to read prompts, to predict, to encode and to decode."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from vilex.composition import Frame
from vilex.prompt import Prompt
from vilex.t2i.text import TextEncoder


@dataclass(frozen=True)
class Condition:
    """What the denoiser reads beside x_t.

    Attributes:
        sequence: the text encoders' features, [B, L, d]; where the denoiser weighs layers itself, [B, L, layers, d].
        pooled: one vector for the whole prompt, [B, p], where a family has it.
        lengths: [B] on the CPU, how much of the sequence is the prompt's, where a family reads no padding or, beside a
            mask, asks for both.
        mask: [B, L], true where the denoiser reads, where a family's reads padding but is told so.
        image: image tokens that go past the text encoder, [B, n, d]; see `vilex.t2i.ip_adapter`.
        adapter: what reads them there.
    """

    sequence: Tensor
    pooled: Tensor | None = None
    lengths: Tensor | None = None
    mask: Tensor | None = None
    image: Tensor | None = None
    adapter: nn.ModuleList | None = None

    def __len__(self) -> int:
        return len(self.sequence)

    def unpadded(self) -> Tensor | list[Tensor]:
        """The sequence; where a family reads no padding, each prompt's own part of it, a list of B [L_i, d]."""
        if self.lengths is None or self.mask is not None:
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

    Families derive from this through `vilex.t2i.folder.DiffusersT2I`, so that what one of them lacks is found by a
    type checker, and by Python when it is made.

    Attributes:
        encoders: its text encoders; an image token is a word to every one of them.
        image_size: pixels a side of its own pictures; `picture_size` says what it draws.
        latent_shape: (c, h, w) of x0.
        scheduler_config: the model's own diffusers scheduler configuration.
        prediction_type: `epsilon`, `v_prediction` or `flow`.
        names: its parts that have weights, by their names in model_index.json.
        reads_emphasis: whether its text encoders are CLIP's alone, which read stressed words; see `vilex.t2i.emphasis`.
        turn: held by whoever uses the model; several threads may hold it at once unless its parts wait elsewhere and
            come when they are called, which only one request at a time can make them do.
    """

    encoders: list[TextEncoder]
    image_size: int
    latent_shape: tuple[int, int, int]
    scheduler_config: dict[str, Any]
    prediction_type: str
    names: tuple[str, ...]
    reads_emphasis: ClassVar[bool]
    turn: AbstractContextManager[Any]

    @abstractmethod
    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        """What B prompts say, with their images' tokens [n, d] by name in place; gradients flow to the tokens."""

    @abstractmethod
    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The denoiser: x_t [B, c, h, w], t [B] -> noise, velocity or flow, [B, c, h, w].

        Where it learns a variance too, that follows in further channels.
        """

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in -1..1 -> x0 [B, c, h, w]."""

    @abstractmethod
    def decode(self, x0: Tensor) -> Tensor:
        """x0 [B, c, h, w] -> pixels [B, 3, H, W], about -1..1."""

    @property
    @abstractmethod
    def picture_size(self) -> tuple[int, int]:
        """(width, height) in pixels of what it draws: `image_size` both, unless it is `sized`."""

    @property
    @abstractmethod
    def size_step(self) -> int:
        """Of how many pixels widths and heights are multiples."""

    @abstractmethod
    def sized(self, width: int, height: int) -> Self:
        """The same model, which draws pictures of another size; its schedule and conditions are that size's.

        Raises:
            InputError: it draws one size only, or none so large, or they are no multiples of `size_step`.
        """

    @abstractmethod
    def prepare(self, scheduler: Any, steps: int) -> None:
        """Set a diffusers scheduler's timesteps as the family's own pipeline does."""

    @abstractmethod
    def shifted(self, level: Tensor) -> Tensor:
        """A flow model's share of noise for a share of its levels, both [B] in 0..1."""

    @property
    @abstractmethod
    def frame(self) -> Frame:
        """How its (first) text encoder frames a prompt."""

    @property
    @abstractmethod
    def width(self) -> int:
        """d, the width of an image token: the sum of all text encoders' own."""

    @property
    @abstractmethod
    def lookups(self) -> tuple[Tensor, ...]:
        """What its text encoders' lookups give for every word, [V, d_i] each."""

    @property
    @abstractmethod
    def vocabulary(self) -> Tensor:
        """Every word as an image token would be it, [V, d]; rows are the tokenizers' ids.

        Raises:
            InputError: its text encoders have not the same words, so that no token is a word to all of them.
        """

    @property
    @abstractmethod
    def wordless_ids(self) -> list[int]:
        """Rows of the vocabulary that no text has: marks such as [BOS] and [EOS], and rows without a word."""

    @abstractmethod
    def word(self, text: str) -> Tensor:
        """The first piece of a text as an image token would be it, [d]: its embedding in every text encoder.

        Raises:
            InputError: the text is empty.
        """

    @abstractmethod
    def skipping(self, clip_skip: int) -> Self:
        """The same model, whose CLIP text encoders leave out their last layers; see `TextEncoder`.

        Raises:
            InputError: they have not so many layers.
        """

    @abstractmethod
    def chunking(self, chunks: int) -> Self:
        """The same model, which reads every prompt in so many chunks; see `vilex.t2i.emphasis`.

        Raises:
            InputError: its text encoders are not CLIP's alone.
        """

    @property
    @abstractmethod
    def network(self) -> Any:
        """The denoiser."""

    @property
    @abstractmethod
    def modules(self) -> tuple[nn.Module, ...]:
        """All parts that have weights."""

    @property
    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Parameters by what they are for."""

    @abstractmethod
    def components(self) -> dict[str, Any]:
        """Modules, tokenizers and scheduler by the names that diffusers' pipelines give them."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """In which numbers the denoiser computes."""

    @abstractmethod
    def to(self, device: str | torch.device) -> Self:
        """Move all parts."""

    @abstractmethod
    def offload(self, device: str | torch.device, way: str = "model") -> Self:
        """Compute on `device`, wait in main memory; see `vilex.t2i.offload.offload`. Requests then take turns."""
