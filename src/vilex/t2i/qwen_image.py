"""Qwen-Image: a vision-language model (Qwen2.5-VL) as the text encoder, a transformer over text and picture alike.

Image tokens live in the language model's embedding table, and are read as words are. The model could also read
pictures by itself, through its own vision tower, as Qwen-Image-Edit lets it: hundreds of features a picture, for what
is to stay as it is. Here its vision tower sees nothing: a picture is the few words that its tokens are.

The prompt stands in a template of the family's own, whose first 34 positions the denoiser is not given. x0 has one
frame; means and deviations of its channels are the auto-encoder's. The pipeline brings the guided prediction back to
the length of the unguided one at every place; `Guidance` here is the plain sum.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.chat import MARK, ChatReader, template_frame, within
from vilex.t2i.codec import PerChannelLatents
from vilex.t2i.flux import pack, unpack
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.text import TextEncoder

POSITIONS, DROPPED = 1024, 34
TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n" + MARK + "<|im_end|>\n"
    "<|im_start|>assistant\n"
)
DEFAULT_SIZE = 1024  # pixels a side, where the auto-encoder's configuration says none: the published one


class QwenImage(DiffusersT2I):
    """`FrozenT2I` over a QwenImagePipeline folder."""

    pipelines = ("QwenImagePipeline",)
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("Qwen2Tokenizer", "Qwen2TokenizerFast"),
        "text_encoder": ("Qwen2_5_VLForConditionalGeneration",),
        "transformer": ("QwenImageTransformer2DModel",),
        "vae": ("AutoencoderKLQwenImage",),
    }
    denoiser = "transformer"
    square = 2
    mask_argument = "prompt_embeds_mask"
    codec_kind = PerChannelLatents
    even_sigmas = True

    def setup(self) -> None:
        words = self.tokenizers["tokenizer"]
        frame = template_frame(words, TEMPLATE, min(POSITIONS + DROPPED, words.model_max_length))
        self.encoders = [TextEncoder(self.text_encoder, frame, native=True)]
        self.reader = ChatReader(self.encoders[0], layers=(-1,), dropped=DROPPED, trimmed=True)
        side = getattr(self.vae.config, "sample_size", DEFAULT_SIZE) // self.codec.compression
        self.set_latent_shape(self.transformer.config.in_channels // 4, side)

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        sequence, lengths = self.reader.read(prompts, tokens)
        return Condition(sequence, mask=within(lengths, sequence))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        batch, _, height, width = x_t.shape
        prediction = self.transformer(
            hidden_states=pack(x_t.to(self.dtype)),
            timestep=t.expand(batch).to(self.dtype) / 1000,
            encoder_hidden_states=condition.sequence.to(self.dtype),
            encoder_hidden_states_mask=condition.mask,
            img_shapes=[[(1, height // 2, width // 2)]] * batch,
            return_dict=False,
        )[0]
        return unpack(prediction, height, width)
