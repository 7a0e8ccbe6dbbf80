"""A frozen text encoder that takes image tokens in the place of words, at its lookup."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from vilex.composition import Composed, Frame, compose, inject
from vilex.prompt import Prompt
from vilex.t2i.offload import device_of

SEES_ALL = ("t5", "t5_gemma_module")  # model types whose positions see what is behind them too
_INJECTED: ContextVar[tuple[nn.Module, Tensor] | None] = ContextVar("injected", default=None)
"""A lookup and what it gives instead of its words, within a call of its text encoder: every thread has its own."""


def _give_injected(table: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
    """The one forward hook of a lookup, however many `TextEncoder`s share it; it holds nothing itself."""
    injected = _INJECTED.get()
    return injected[1].to(output) if injected is not None and injected[0] is table else None


class TextEncoder:
    """A text encoder with its tokenizer, which reads prompts with image tokens.

    Args:
        model: a transformers text encoder. Where it takes `inputs_embeds`, embeddings go in that way; CLIP's
            takes none, so they enter by a hook on its lookup, and mask, positions, pooling at [EOS] and hidden
            states stay its own.
        frame: what stands around prompts, and L, to which they are padded.
        native: whether the model takes `inputs_embeds`.
        clip_skip: how many of CLIP's last layers are left out of its features, though not of what it pools.
    """

    def __init__(self, model: Any, frame: Frame, native: bool = False, clip_skip: int = 0):
        self.model, self.native, self.frame, self.clip_skip = model, native, frame, clip_skip
        if not native and _give_injected not in self.table._forward_hooks.values():
            self.table.register_forward_hook(_give_injected)

    @property
    def table(self) -> nn.Embedding:
        """The lookup, as a module."""
        return self.model.get_input_embeddings()

    @property
    def lookup(self) -> Tensor:
        """What the lookup gives for every word, [V, d]: its matrix, times what Gemma's multiplies it by."""
        scale = getattr(self.table, "embed_scale", None)
        return self.table.weight if scale is None else self.table.weight * scale.to(self.table.weight.dtype)

    @property
    def width(self) -> int:
        """d_i, of this encoder's words."""
        return self.table.weight.shape[1]

    def embed(self, ids: Tensor) -> Tensor:
        """Look words up: ids [B, L] -> embeddings [B, L, d]."""
        return self.table(ids.to(device_of(self.table)))

    def read(
        self,
        prompts: Sequence[Prompt],
        tokens: Sequence[Mapping[str, Tensor]],
        masked: bool,
        trimmed: bool = False,
        frames: Sequence[Frame] | None = None,
        **how: Any,
    ) -> Any:
        """The model's own output for B prompts, and how long each is.

        Args:
            tokens: [n, d] by name, for each prompt.
            masked: whether the model is told what is padding.
            trimmed: whether padding ends with the longest prompt instead of after L positions.
            frames: of each prompt, of equally many positions; the text encoder's own by default.
            how: further arguments of the model.
        Returns:
            Output of the model; [B] on the CPU, positions up to the end of each prompt.
        """
        framed = zip(prompts, frames or [self.frame] * len(prompts), strict=True)
        return self.read_layouts([compose(prompt, frame) for prompt, frame in framed], tokens, masked, trimmed, **how)

    def read_layouts(
        self,
        layouts: Sequence[Composed],
        tokens: Sequence[Mapping[str, Tensor]],
        masked: bool,
        trimmed: bool = False,
        **how: Any,
    ) -> Any:
        """The same of prompts that are laid out already; how much they are stressed is not read here."""
        lengths = torch.tensor([layout.length for layout in layouts])
        size = int(lengths.max()) if trimmed else len(layouts[0].ids)
        ids = torch.stack([layout.ids[:size] for layout in layouts]).to(device_of(self.table))
        mask = self._mask(lengths, ids.shape[1]).to(ids.device) if masked else None
        return self(ids, inject(self.embed(ids), list(layouts), list(tokens)), mask, **how), lengths

    def _mask(self, lengths: Tensor, size: int) -> Tensor:
        """Which positions each position reads, [B, 1, L, L] on the CPU, of which each prompt has its length.

        transformers would make it of [B, L] itself, but asks the device for it whether anything is padding. Its fused
        attention takes the whole as it is, its plain one as what is added to the scores, other ones take none.
        """
        there, way = torch.arange(size) < lengths[:, None], self.model.config._attn_implementation
        if way not in ("sdpa", "eager"):
            return there.long()
        seen = there[:, None, None].expand(-1, -1, size, -1)
        seen = seen if self.model.config.model_type in SEES_ALL else seen.tril()
        if way == "sdpa":
            return seen
        dtype = self.table.weight.dtype
        return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)

    def __call__(self, ids: Tensor, embeddings: Tensor, mask: Tensor | None = None, **how: Any) -> Any:
        """Run on embeddings [B, L, d]; ids [B, L] still tell where [EOS] is. Threads do not see each other's."""
        if self.native:
            return self.model(inputs_embeds=embeddings.to(self.table.weight.dtype), attention_mask=mask, **how)
        before = _INJECTED.set((self.table, embeddings))
        try:
            if not self.clip_skip:
                return self.model(ids, attention_mask=mask, **how)
            return self._skipped(self.model(ids, attention_mask=mask, **{**how, "output_hidden_states": True}))
        finally:
            _INJECTED.reset(before)

    def _skipped(self, output: Any) -> Any:
        """CLIP's output as if its last layers were not there; what is pooled, from [EOS] after the last one, stays."""
        layers = output.hidden_states[: -self.clip_skip]
        norm = getattr(self.model, "text_model", self.model).final_layer_norm
        return type(output)(**{**output, "last_hidden_state": norm(layers[-1]), "hidden_states": layers})


def shares(tokens: Sequence[Mapping[str, Tensor]], encoders: Sequence[TextEncoder]) -> list[list[dict[str, Tensor]]]:
    """Each text encoder's own columns of the image tokens, in their order."""
    parts, start = [], 0
    for encoder in encoders:
        columns = slice(start, start + encoder.width)
        parts.append([{name: value[:, columns] for name, value in named.items()} for named in tokens])
        start += encoder.width
    return parts
