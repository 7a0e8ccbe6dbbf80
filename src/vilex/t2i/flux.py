"""FLUX.1: CLIP's pooled vector and T5's sequence, a flow-matching transformer that has guidance distilled into it.

An image token is a word to both text encoders. Guidance-distilled models (dev) are told a guidance scale, which
is no guidance by conditions: CFG and text-free guidance act on top of it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vilex.composition import Frame
from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.text import TextEncoder, shares

T5_POSITIONS = 512


class Flux(DiffusersT2I):
    """`FrozenT2I` over a FluxPipeline folder, dev or schnell.

    Attributes:
        distilled_guidance: the scale that guidance-distilled models are told.
    """

    pipelines = ("FluxPipeline",)
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_2": ("T5TokenizerFast", "T5Tokenizer"),
        "text_encoder": ("CLIPTextModel",),
        "text_encoder_2": ("T5EncoderModel",),
        "transformer": ("FluxTransformer2DModel",),
        "vae": ("AutoencoderKL",),
    }
    denoiser = "transformer"
    square = 2
    even_sigmas = True
    distilled_guidance = 3.5

    def setup(self) -> None:
        one, two = self.tokenizers["tokenizer"], self.tokenizers["tokenizer_2"]
        self.encoders = [
            TextEncoder(self.text_encoder, Frame.of(one, one.model_max_length)),
            TextEncoder(self.text_encoder_2, Frame.of(two, T5_POSITIONS), native=True),
        ]
        compression = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.set_latent_shape(self.transformer.config.in_channels // 4, self.vae.config.sample_size // compression)

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        clip, t5 = (
            encoder.read(prompts, own, masked=False)[0]
            for encoder, own in zip(self.encoders, shares(tokens, self.encoders), strict=True)
        )
        return Condition(t5[0], pooled=clip.pooler_output)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        batch, _, height, width = x_t.shape
        scale = None
        if self.transformer.config.guidance_embeds:
            scale = torch.full((batch,), self.distilled_guidance, device=x_t.device, dtype=torch.float32)
        assert condition.pooled is not None
        prediction = self.transformer(
            hidden_states=pack(x_t.to(self.dtype)),
            timestep=t.expand(batch).to(self.dtype) / 1000,
            guidance=scale,
            pooled_projections=condition.pooled.to(self.dtype),
            encoder_hidden_states=condition.sequence.to(self.dtype),
            txt_ids=torch.zeros(condition.sequence.shape[1], 3, device=x_t.device, dtype=self.dtype),
            img_ids=places(height // 2, width // 2).to(x_t.device, self.dtype),
            return_dict=False,
        )[0]
        return unpack(prediction, height, width)


def pack(x: Tensor) -> Tensor:
    """Squares of 2 x 2 latents as one place: [B, c, h, w] -> [B, h w / 4, 4 c]."""
    return x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def unpack(x: Tensor, height: int, width: int) -> Tensor:
    """What `pack` did, undone."""
    squares = x.unflatten(1, (height // 2, width // 2)).unflatten(3, (-1, 2, 2))
    return squares.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def places(height: int, width: int) -> Tensor:
    """(0, row, column) of every place, [height width, 3]."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).flatten(0, 1)
