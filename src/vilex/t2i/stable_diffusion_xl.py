"""Stable Diffusion XL: two CLIP text encoders, a pooled vector of the second, and the picture's size as a condition.

An image token is a word to both text encoders: its first columns are the first one's, the others the second's.
Both give their penultimate hidden states; the U-Net also reads the second one's projected [EOS] and six numbers:
original size, crop and target size, both of them that of the picture that is drawn, without a crop. Where the model
says so, a prompt of nothing at all is zeros, and its auto-encoder computes in float32 though its weights be float16.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from threading import RLock
from typing import Any

import torch
from torch import Tensor

from vilex.composition import Frame
from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.emphasis import clip_features
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.text import TextEncoder, shares

_VAE_IN_RANGE = RLock()  # while a half-precision auto-encoder is float32, no other thread may find it so


class StableDiffusionXL(DiffusersT2I):
    """`FrozenT2I` over a StableDiffusionXLPipeline folder, base or turbo."""

    pipelines = ("StableDiffusionXLPipeline",)
    reads_emphasis = True
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "text_encoder": ("CLIPTextModel",),
        "text_encoder_2": ("CLIPTextModelWithProjection",),
        "unet": ("UNet2DConditionModel",),
        "vae": ("AutoencoderKL", "AutoencoderTiny"),
    }

    def setup(self) -> None:
        one, two = self.tokenizers["tokenizer"], self.tokenizers["tokenizer_2"]
        self.encoders = [
            TextEncoder(self.text_encoder, Frame.of(one, one.model_max_length)),
            TextEncoder(self.text_encoder_2, Frame.of(two, two.model_max_length)),
        ]
        self.set_latent_shape(self.unet.config.in_channels, self.unet.config.sample_size)

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        (one, _), (two, output) = (
            clip_features(encoder, prompts, own, _penultimate, chunks=self.chunks, output_hidden_states=True)
            for encoder, own in zip(self.encoders, shares(tokens, self.encoders), strict=True)
        )
        sequence, pooled = torch.cat([one, two], dim=-1), output.text_embeds
        if self.index.get("force_zeros_for_empty_prompt"):
            filled = torch.tensor([bool(prompt.parts) for prompt in prompts], device=sequence.device)
            sequence, pooled = sequence * filled[:, None, None], pooled * filled[:, None]
        return Condition(sequence, pooled=pooled)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        width, height = self.picture_size
        numbers = torch.tensor([height, width, 0, 0, height, width], device=x_t.device, dtype=self.dtype)
        assert condition.pooled is not None
        added = {"text_embeds": condition.pooled.to(self.dtype), "time_ids": numbers.expand(len(x_t), -1)}
        sequence, beside = condition.sequence.to(self.dtype), condition.cross_attention_kwargs(self.dtype)
        return self.unet(
            x_t.to(self.dtype), t, sequence, added_cond_kwargs=added, cross_attention_kwargs=beside, return_dict=False
        )[0]

    def encode(self, pixels: Tensor) -> Tensor:
        with self._vae_in_range():
            return super().encode(pixels)

    def decode(self, x0: Tensor) -> Tensor:
        with self._vae_in_range():
            return super().decode(x0)

    @contextmanager
    def _vae_in_range(self) -> Iterator[None]:
        """Its activations can go past float16's largest number: where its config says so, it computes in float32."""
        kind = "cpu" if self.device.type == "meta" else self.device.type
        casts = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) is torch.float16
        with _VAE_IN_RANGE if self.vae.config.force_upcast else nullcontext():
            half, spared = self.vae.dtype is torch.float16, self.vae.config.force_upcast
            if spared and half:
                self.vae.float()
            try:
                with torch.autocast(kind, enabled=False) if spared and casts else nullcontext():
                    yield
            finally:
                if spared and half:
                    self.vae.half()


def _penultimate(output: Any) -> Tensor:
    return output.hidden_states[-2]
