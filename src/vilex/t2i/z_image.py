"""Z-Image: a language model (Qwen3) as the text encoder, a flow-matching transformer over text and picture alike.

Image tokens live in the language model's embedding table. The prompt stands in the model's own chat template, which
is kept around words and image tokens; its penultimate hidden states, without padding, are what the denoiser reads.
The pipeline's guidance scale counts from the prompt: its s is `Guidance(cfg=s + 1)` here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vilex.prompt import Frame, Prompt
from vilex.t2i.base import Condition
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.text import TextEncoder

POSITIONS = 512
PATCH = 2
MARK = "\0"  # stands for the prompt where the template is cut


class ZImage(DiffusersT2I):
    """`FrozenT2I` over a ZImagePipeline folder."""

    pipelines = ("ZImagePipeline",)
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("Qwen2Tokenizer", "Qwen2TokenizerFast"),
        "text_encoder": ("Qwen3Model", "Qwen3ForCausalLM"),
        "transformer": ("ZImageTransformer2DModel",),
        "vae": ("AutoencoderKL",),
    }
    denoiser = "transformer"
    even_sigmas = True

    def setup(self) -> None:
        frame = chat_frame(self.tokenizers["tokenizer"], POSITIONS)
        self.encoders = [TextEncoder(self.text_encoder, frame, native=True)]
        compression = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.set_latent_shape(self.transformer.config.in_channels, self.vae.config.sample_size // compression)

    @property
    def image_positions(self) -> int:
        return (self.latent_shape[1] // PATCH) * (self.latent_shape[2] // PATCH)

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        how = {"output_hidden_states": True, "use_cache": False}
        output, lengths = self.encoders[0].read(prompts, tokens, masked=True, **how)
        return Condition(output.hidden_states[-2], lengths=lengths)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        sequences = [one.to(self.dtype) for one in condition.unpadded()]
        pictures = list(x_t.to(self.dtype).unsqueeze(2).unbind())
        drawn = self.transformer(pictures, (1000 - t.expand(len(x_t))) / 1000, sequences, return_dict=False)[0]
        return -torch.stack([one.float() for one in drawn]).squeeze(2)


def chat_frame(tokenizer: Any, positions: int) -> Frame:
    """The chat template around a user's message, as ids before and after it."""
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": MARK}], tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    before, after = (tuple(tokenizer(part, add_special_tokens=False).input_ids) for part in chat.split(MARK))
    return Frame(tokenizer, positions, before, after, bare=True)
