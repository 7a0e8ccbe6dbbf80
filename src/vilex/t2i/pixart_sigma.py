"""PixArt-Sigma: T5 with its mask, a transformer that learns its variance too; words in small letters, not cleaned."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.chat import within
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.frames import small_frame
from vilex.t2i.text import TextEncoder

POSITIONS = 300


class PixArtSigma(DiffusersT2I):
    """`FrozenT2I` over a PixArtSigmaPipeline folder."""

    pipelines = ("PixArtSigmaPipeline",)
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("T5Tokenizer", "T5TokenizerFast"),
        "text_encoder": ("T5EncoderModel",),
        "transformer": ("PixArtTransformer2DModel",),
        "vae": ("AutoencoderKL",),
    }
    denoiser = "transformer"
    mask_argument = "prompt_attention_mask"

    def setup(self) -> None:
        words = self.tokenizers["tokenizer"]
        frame = small_frame(words, min(POSITIONS, words.model_max_length))
        self.encoders = [TextEncoder(self.text_encoder, frame, native=True)]
        self.set_latent_shape(self.transformer.config.in_channels, self.transformer.config.sample_size)

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        output, lengths = self.encoders[0].read(prompts, tokens, masked=True)
        return Condition(output[0], mask=within(lengths, output[0]))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        assert condition.mask is not None
        return self.transformer(
            x_t.to(self.dtype),
            encoder_hidden_states=condition.sequence.to(self.dtype),
            encoder_attention_mask=condition.mask.to(self.dtype),
            timestep=t.expand(len(x_t)),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
