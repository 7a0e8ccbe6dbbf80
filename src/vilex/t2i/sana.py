"""Sana: a language model (Gemma 2) as the text encoder, a linear transformer, latents of 32 pixels a side.

A prompt of words or images stands behind the pipeline's instruction to describe it better, in small letters; of the
positions the denoiser is given [BOS] and what follows the instruction. An empty prompt stands alone, and so does what
is steered away from.
"""

import inspect
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.chat import within
from vilex.t2i.codec import DeepCompression
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.frames import bare_frame, framed, spaced_frame
from vilex.t2i.text import TextEncoder

POSITIONS = 300


class Sana(DiffusersT2I):
    """`FrozenT2I` over a SanaPipeline folder."""

    pipelines = ("SanaPipeline",)
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("GemmaTokenizerFast", "GemmaTokenizer"),
        "text_encoder": ("Gemma2Model",),
        "transformer": ("SanaTransformer2DModel",),
        "vae": ("AutoencoderDC",),
    }
    denoiser = "transformer"
    codec_kind = DeepCompression
    mask_argument = "prompt_attention_mask"

    def setup(self) -> None:
        words = self.tokenizers["tokenizer"]
        self.positions = min(POSITIONS, words.model_max_length)
        frame = spaced_frame(words, instruction(), self.positions, str.lower)
        self.nothing = bare_frame(words, frame.positions, str.lower)
        self.encoders = [TextEncoder(self.text_encoder, frame, native=True)]
        self.set_latent_shape(self.transformer.config.in_channels, self.transformer.config.sample_size)

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        encoder = self.encoders[0]
        frames = framed(prompts, encoder.frame, self.nothing)
        output, lengths = encoder.read(prompts, tokens, masked=True, frames=frames, use_cache=False)
        skipped = torch.tensor([len(frame.before) - 1 for frame in frames])  # between [BOS] and the prompt
        places = torch.arange(self.positions) + skipped[:, None]
        places[:, 0] = 0
        sequence = torch.stack([row[place] for row, place in zip(output[0], places.to(output[0].device), strict=True)])
        return Condition(sequence, mask=within(lengths - skipped, sequence))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        assert condition.mask is not None
        return self.transformer(
            x_t.to(self.dtype),
            encoder_hidden_states=condition.sequence.to(self.dtype),
            encoder_attention_mask=condition.mask.to(self.dtype),
            timestep=t.expand(len(x_t)) * self.transformer.config.timestep_scale,
            return_dict=False,
        )[0]


def instruction() -> str:
    """What the pipeline puts before prompts."""
    from diffusers import SanaPipeline

    lines: list[str] = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
    return "\n".join(lines)
