"""Stable Diffusion 1.x and 2.x: a CLIP text encoder, a U-Net, an auto-encoder.

SD 2.x needs no case of its own: its text encoder had its last layer removed at conversion, so the
last hidden state is the penultimate layer's; its prediction type and padding come from its configs.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from vilex.composition import Frame
from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.emphasis import clip_features
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.text import TextEncoder


class StableDiffusion(DiffusersT2I):
    """`FrozenT2I` over a StableDiffusionPipeline folder."""

    pipelines = ("StableDiffusionPipeline",)
    reads_emphasis = True
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "text_encoder": ("CLIPTextModel",),
        "unet": ("UNet2DConditionModel",),
        "vae": ("AutoencoderKL", "AutoencoderTiny"),
    }

    def setup(self) -> None:
        config, tokenizer = self.text_encoder.config, self.tokenizers["tokenizer"]
        self.positions = min(tokenizer.model_max_length, config.max_position_embeddings)
        self.encoders = [TextEncoder(self.text_encoder, Frame.of(tokenizer, self.positions))]
        self.masked = getattr(config, "use_attention_mask", False)
        self.set_latent_shape(self.unet.config.in_channels, self.unet.config.sample_size)

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        sequence, _ = clip_features(
            self.encoders[0], prompts, tokens, lambda output: output[0], self.masked, self.chunks
        )
        return Condition(sequence)

    def embed(self, ids: Tensor) -> Tensor:
        """Look words up: ids [B, L] -> embeddings [B, L, d]."""
        return self.encoders[0].embed(ids)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        sequence, beside = condition.sequence.to(self.dtype), condition.cross_attention_kwargs(self.dtype)
        return self.unet(x_t.to(self.dtype), t, sequence, cross_attention_kwargs=beside, return_dict=False)[0]
