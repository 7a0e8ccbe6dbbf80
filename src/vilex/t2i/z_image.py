"""Z-Image: a language model (Qwen3) as the text encoder, a flow-matching transformer over text and picture alike.

Image tokens live in the language model's embedding table. The prompt stands in the model's own chat template, which
is kept around words and image tokens; its penultimate hidden states, without padding, are what the denoiser reads.
The pipeline's guidance scale counts from the prompt: its s is `Guidance(cfg=s + 1)` here.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.chat import ChatReader, chat_frame
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.text import TextEncoder

POSITIONS = 512
PATCH = 2


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
    square = PATCH
    even_sigmas = True

    def setup(self) -> None:
        frame = chat_frame(self.tokenizers["tokenizer"], POSITIONS)
        self.encoders = [TextEncoder(self.text_encoder, frame, native=True)]
        self.reader = ChatReader(self.encoders[0], layers=(-2,))
        compression = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.set_latent_shape(self.transformer.config.in_channels, self.vae.config.sample_size // compression)

    @property
    def most_places(self) -> int:
        return min(self.transformer.config.axes_lens[1:])

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        sequence, lengths = self.reader.read(prompts, tokens)
        return Condition(sequence, lengths=lengths)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        sequences = [one.to(self.dtype) for one in condition.unpadded()]
        pictures = list(x_t.to(self.dtype).unsqueeze(2).unbind())
        drawn = self.transformer(pictures, (1000 - t.expand(len(x_t))) / 1000, sequences, return_dict=False)[0]
        return -torch.stack([one.float() for one in drawn]).squeeze(2)
