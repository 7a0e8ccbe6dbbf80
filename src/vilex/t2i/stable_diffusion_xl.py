"""Stable Diffusion XL: two CLIP text encoders, a pooled vector of the second, and the picture's size as a condition.

An image token is a word to both text encoders: its first columns are the first one's, the others the second's.
Both give their penultimate hidden states; the U-Net also reads the second one's projected [EOS] and six numbers:
original size, crop and target size, all of them the model's own size without a crop. Where the model says so, a
prompt of nothing at all is zeros.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vilex.prompt import Frame, Prompt
from vilex.t2i.base import Condition
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.text import TextEncoder, shares


class StableDiffusionXL(DiffusersT2I):
    """`FrozenT2I` over a StableDiffusionXLPipeline folder, base or turbo."""

    pipelines = ("StableDiffusionXLPipeline",)
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "text_encoder": ("CLIPTextModel",),
        "text_encoder_2": ("CLIPTextModelWithProjection",),
        "unet": ("UNet2DConditionModel",),
        "vae": ("AutoencoderKL", "AutoencoderTiny"),
    }

    def setup(self, tokenizers: dict[str, Any]) -> None:
        one, two = tokenizers["tokenizer"], tokenizers["tokenizer_2"]
        self.encoders = [
            TextEncoder(self.text_encoder, Frame.of(one, one.model_max_length)),
            TextEncoder(self.text_encoder_2, Frame.of(two, two.model_max_length)),
        ]
        self.latents(self.unet.config.in_channels, self.unet.config.sample_size)

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        outputs = [
            encoder.read(prompts, own, masked=False, output_hidden_states=True)[0]
            for encoder, own in zip(self.encoders, shares(tokens, self.encoders), strict=True)
        ]
        sequence = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        pooled = outputs[1].text_embeds
        if self.index.get("force_zeros_for_empty_prompt"):
            said = torch.tensor([bool(prompt.parts) for prompt in prompts], device=sequence.device)
            sequence, pooled = sequence * said[:, None, None], pooled * said[:, None]
        return Condition(sequence, pooled=pooled)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        size = [self.image_size] * 2
        numbers = torch.tensor([*size, 0, 0, *size], device=x_t.device, dtype=self.dtype)
        added = {"text_embeds": condition.pooled.to(self.dtype), "time_ids": numbers.expand(len(x_t), -1)}
        sequence = condition.sequence.to(self.dtype)
        return self.unet(x_t.to(self.dtype), t, sequence, added_cond_kwargs=added, return_dict=False)[0]
