"""DeepFloyd IF, first stage: T5 with its mask, a U-Net at 64 x 64 pixels that also learns its variance."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.frames import small_frame
from vilex.t2i.pixel_diffusion import PixelSpace
from vilex.t2i.text import TextEncoder

POSITIONS = 77  # that its text encoder was trained with, though T5 could read more


class DeepFloydIF(PixelSpace):
    """`FrozenT2I` over an IFPipeline folder; words in small letters, not cleaned."""

    pipelines = ("IFPipeline",)
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("T5TokenizerFast", "T5Tokenizer"),
        "text_encoder": ("T5EncoderModel",),
        "unet": ("UNet2DConditionModel",),
    }

    def setup(self) -> None:
        frame = small_frame(self.tokenizers["tokenizer"], POSITIONS)
        self.encoders = [TextEncoder(self.text_encoder, frame, native=True)]
        self.set_pixel_shape()

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        output, _ = self.encoders[0].read(prompts, tokens, masked=True)
        return Condition(output[0])

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return self.unet(x_t.to(self.dtype), t, condition.sequence.to(self.dtype), return_dict=False)[0]
