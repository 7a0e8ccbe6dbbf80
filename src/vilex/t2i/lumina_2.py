"""Lumina-Image 2.0: a language model's (Gemma 2's) second-to-last layer, a transformer over text and picture alike.

A prompt of words or images stands behind a system prompt; an empty one, and what is steered away from, alone. The
denoiser's time goes from noise, 0, to picture, 1, and what it predicts points there. The pipeline brings the guided
prediction back to the length of the unguided one at every place; `Guidance` here is the plain sum.
"""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.chat import ChatReader, within
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.frames import bare_frame, spaced_frame
from vilex.t2i.text import TextEncoder

POSITIONS = 256
SYSTEM = (
    "You are an assistant designed to generate superior images with the superior degree of image-text alignment based "
    "on textual prompts or user prompts."
)
_MASK: ContextVar[Tensor | None] = ContextVar("mask", default=None)
"""The mask [B, L] on the CPU, within a call of the denoiser: every thread has its own."""


class Lumina2(DiffusersT2I):
    """`FrozenT2I` over a Lumina2Pipeline folder."""

    pipelines = ("Lumina2Pipeline",)
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("GemmaTokenizerFast", "GemmaTokenizer"),
        "text_encoder": ("Gemma2Model",),
        "transformer": ("Lumina2Transformer2DModel",),
        "vae": ("AutoencoderKL",),
    }
    denoiser = "transformer"
    mask_argument = "prompt_attention_mask"
    even_sigmas = True

    def setup(self) -> None:
        words = self.tokenizers["tokenizer"]
        positions = min(POSITIONS, words.model_max_length)
        frame = replace(spaced_frame(words, f"{SYSTEM} <Prompt Start>", 1), positions=positions)
        self.encoders = [TextEncoder(self.text_encoder, frame, native=True)]
        self.reader = ChatReader(self.encoders[0], layers=(-2,), nothing=bare_frame(words, positions))
        if _on_the_cpu not in self.transformer.rope_embedder._forward_pre_hooks.values():
            self.transformer.rope_embedder.register_forward_pre_hook(_on_the_cpu)
        self.set_latent_shape(self.transformer.config.in_channels, self.transformer.config.sample_size)

    @property
    def image_positions(self) -> int:
        """diffusers (0.42) counts channels here, which a configuration without `use_dynamic_shifting` does not hear."""
        return self.latent_shape[0]

    @property
    def most_places(self) -> int:
        return int(min(self.transformer.config.axes_lens[1:]))

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        sequence, lengths = self.reader.read(prompts, tokens)
        return Condition(sequence, lengths=lengths, mask=within(lengths, sequence))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        assert condition.lengths is not None
        before = _MASK.set(within(condition.lengths, condition.sequence, "cpu"))
        try:
            return -self.transformer(
                hidden_states=x_t.to(self.dtype),
                timestep=1 - t.expand(len(x_t)) / 1000,
                encoder_hidden_states=condition.sequence.to(self.dtype),
                encoder_attention_mask=condition.mask,
                return_dict=False,
            )[0]
        finally:
            _MASK.reset(before)


def _on_the_cpu(rope: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """A hook for what asks how long prompts are: (latents, mask), for whose numbers the device need not be waited."""
    mask = _MASK.get()
    return None if mask is None else (inputs[0], mask)
