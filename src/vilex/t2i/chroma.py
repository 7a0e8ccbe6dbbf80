"""Chroma: FLUX.1's layout with T5 alone; the denoiser is told of the prompt and one position of its padding.

diffusers (0.42) hands that mask to the denoiser as numbers, which its attention adds to the logits: what is told of
gets 1 more, and the rest is not hidden. It is so here too, for the pictures are to be the pipeline's.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vilex.composition import Frame
from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.chat import within
from vilex.t2i.flux import pack, places, unpack
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.text import TextEncoder

POSITIONS = 512


class Chroma(DiffusersT2I):
    """`FrozenT2I` over a ChromaPipeline folder."""

    pipelines = ("ChromaPipeline",)
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("T5TokenizerFast", "T5Tokenizer"),
        "text_encoder": ("T5EncoderModel",),
        "transformer": ("ChromaTransformer2DModel",),
        "vae": ("AutoencoderKL",),
    }
    denoiser = "transformer"
    square = 2
    mask_argument = "prompt_attention_mask"
    mask_dtype = None
    even_sigmas = True

    def setup(self) -> None:
        words = self.tokenizers["tokenizer"]
        frame = Frame.of(words, min(POSITIONS, words.model_max_length))
        self.encoders = [TextEncoder(self.text_encoder, frame, native=True)]
        channels = self.transformer.config.in_channels // 4
        self.set_latent_shape(channels, self.vae.config.sample_size // self.codec.compression)

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        output, lengths = self.encoders[0].read(prompts, tokens, masked=True)
        return Condition(output[0], mask=within(lengths + 1, output[0]))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        batch, _, height, width = x_t.shape
        assert condition.mask is not None
        picture = condition.mask.new_ones(batch, height * width // 4)
        mask = torch.cat([condition.mask, picture], dim=1).to(self.dtype)
        with _masked_checkpoints(self.transformer, mask):
            prediction = self.transformer(
                hidden_states=pack(x_t.to(self.dtype)),
                timestep=t.expand(batch).to(self.dtype) / 1000,
                encoder_hidden_states=condition.sequence.to(self.dtype),
                txt_ids=torch.zeros(condition.sequence.shape[1], 3, device=x_t.device, dtype=self.dtype),
                img_ids=places(height // 2, width // 2).to(x_t.device, self.dtype),
                attention_mask=mask,
                return_dict=False,
            )[0]
        return unpack(prediction, height, width)


@contextmanager
def _masked_checkpoints(transformer: Any, mask: Tensor) -> Iterator[None]:
    """Where activations are made again, diffusers (0.42) calls the single-stream blocks without the mask [B, L]."""
    if not transformer.gradient_checkpointing:
        yield
        return
    given, single = transformer._gradient_checkpointing_func, {*transformer.single_transformer_blocks}

    def masked(block: Any, *args: Any) -> Any:
        return given(block, *args, mask) if block in single else given(block, *args)

    transformer._gradient_checkpointing_func = masked
    try:
        yield
    finally:
        transformer._gradient_checkpointing_func = given
