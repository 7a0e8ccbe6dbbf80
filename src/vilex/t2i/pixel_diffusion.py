"""Text-to-image models that draw pixels themselves: the paper's own shape, and what such families share.

The paper's frozen model works at 64 x 64 pixels: a CLIP text encoder whose projected [EOS] is added to the time
embedding, cross-attention to its sequence, v-prediction, no auto-encoder. A folder of this family has a tokenizer,
a CLIPTextModelWithProjection, a UNet2DConditionModel with `class_embed_type` "projection", and a scheduler; its
model_index.json says `PixelDiffusionPipeline`.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from vilex.composition import Frame
from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.text import TextEncoder


class PixelSpace(DiffusersT2I):
    """A family whose x0 is the picture, of one size."""

    resizable = False

    def set_pixel_shape(self) -> None:
        """Set `latent_shape` and `image_size` from the denoiser."""
        size = self.unet.config.sample_size
        self.latent_shape, self.image_size = (self.unet.config.in_channels, size, size), size

    @property
    def compression(self) -> int:
        return 1

    def encode(self, pixels: Tensor) -> Tensor:
        return pixels.to(self.dtype)

    def decode(self, x0: Tensor) -> Tensor:
        return x0


class PixelDiffusion(PixelSpace):
    """`FrozenT2I` in the paper's own shape."""

    pipelines = ("PixelDiffusionPipeline",)
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "text_encoder": ("CLIPTextModelWithProjection",),
        "unet": ("UNet2DConditionModel",),
    }

    def setup(self) -> None:
        tokenizer = self.tokenizers["tokenizer"]
        self.encoders = [TextEncoder(self.text_encoder, Frame.of(tokenizer, tokenizer.model_max_length))]
        self.set_pixel_shape()

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        output, _ = self.encoders[0].read(prompts, tokens, masked=False)
        return Condition(output.last_hidden_state, pooled=output.text_embeds)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        assert condition.pooled is not None
        sequence, pooled = condition.sequence.to(self.dtype), condition.pooled.to(self.dtype)
        beside = condition.cross_attention_kwargs(self.dtype)
        return self.unet(
            x_t.to(self.dtype), t, sequence, class_labels=pooled, cross_attention_kwargs=beside, return_dict=False
        )[0]
