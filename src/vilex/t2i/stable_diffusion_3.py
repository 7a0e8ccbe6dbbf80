"""Stable Diffusion 3 and 3.5: two CLIP text encoders and T5 side by side, a flow-matching transformer.

An image token is a word to all of them, so it has the columns of each (T5 may be left out of a folder to save
memory; its share of the sequence is then zeros, as in diffusers).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vilex.composition import Frame
from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.text import TextEncoder, shares

T5_POSITIONS = 256


class StableDiffusion3(DiffusersT2I):
    """`FrozenT2I` over a StableDiffusion3Pipeline folder."""

    pipelines = ("StableDiffusion3Pipeline",)
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_3": ("T5TokenizerFast", "T5Tokenizer", None),
        "text_encoder": ("CLIPTextModelWithProjection",),
        "text_encoder_2": ("CLIPTextModelWithProjection",),
        "text_encoder_3": ("T5EncoderModel", None),
        "transformer": ("SD3Transformer2DModel",),
        "vae": ("AutoencoderKL",),
    }
    denoiser = "transformer"

    def setup(self) -> None:
        one, two = self.tokenizers["tokenizer"], self.tokenizers["tokenizer_2"]
        self.encoders = [
            TextEncoder(self.text_encoder, Frame.of(one, one.model_max_length)),
            TextEncoder(self.text_encoder_2, Frame.of(two, two.model_max_length)),
        ]
        if "text_encoder_3" in self.names:
            self.encoders.append(
                TextEncoder(self.text_encoder_3, Frame.of(self.tokenizers["tokenizer_3"], T5_POSITIONS), native=True)
            )
        self.set_latent_shape(self.transformer.config.in_channels, self.transformer.config.sample_size)

    @property
    def most_places(self) -> int:
        return int(self.transformer.config.pos_embed_max_size)

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        parts = shares(tokens, self.encoders)
        clips = [
            encoder.read(prompts, own, masked=False, output_hidden_states=True)[0]
            for encoder, own in zip(self.encoders[:2], parts, strict=False)
        ]
        pooled = torch.cat([output.text_embeds for output in clips], dim=-1)
        features = torch.cat([output.hidden_states[-2] for output in clips], dim=-1)
        width = self.transformer.config.joint_attention_dim
        if len(self.encoders) == 3:
            t5 = self.encoders[2].read(prompts, parts[2], masked=False)[0][0]
        else:
            t5 = features.new_zeros(len(prompts), T5_POSITIONS, width)
        padded = F.pad(features, (0, width - features.shape[-1]))
        return Condition(torch.cat([padded, t5], dim=-2), pooled=pooled)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        assert condition.pooled is not None
        return self.transformer(
            x_t.to(self.dtype), timestep=t.expand(len(x_t)), encoder_hidden_states=condition.sequence.to(self.dtype),
            pooled_projections=condition.pooled.to(self.dtype), return_dict=False,
        )[0]  # fmt: skip
