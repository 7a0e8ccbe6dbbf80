"""PRX: a T5Gemma encoder, a small flow-matching transformer whose pictures read the prompt in every block.

As in the pipeline words are cleaned before they are read: small letters alone, no addresses, no marks that captions on
the web are full of; diffusers' own rules, which want ftfy. The text encoder multiplies embeddings by the root of their
width itself, so that a token is a row of its table. Of one model with two auto-encoders, FLUX.1's and a
deep-compression one, both are read.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from diffusers import AutoencoderDC
from torch import Tensor

from vilex.extras import needs
from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.chat import within
from vilex.t2i.codec import DeepCompression
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.frames import bare_frame
from vilex.t2i.text import TextEncoder

POSITIONS = 256
DEFAULT_SIZE = 512  # pixels a side, where model_index.json says none


class PRX(DiffusersT2I):
    """`FrozenT2I` over a PRXPipeline folder."""

    pipelines = ("PRXPipeline",)
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("GemmaTokenizerFast", "GemmaTokenizer"),
        "text_encoder": ("T5GemmaEncoder",),
        "transformer": ("PRXTransformer2DModel",),
        "vae": ("AutoencoderKL", "AutoencoderDC"),
    }
    denoiser = "transformer"
    mask_argument = "prompt_attention_mask"

    @classmethod
    def check(cls, folder: Path) -> dict[str, type]:
        import diffusers.pipelines.prx  # noqa: F401 (makes T5GemmaEncoder known to transformers by its name)

        return super().check(folder)

    def setup(self) -> None:
        words = self.tokenizers["tokenizer"]
        frame = bare_frame(words, min(POSITIONS, words.model_max_length), clean)
        self.encoders = [TextEncoder(self.text_encoder, frame, native=True)]
        if isinstance(self.vae, AutoencoderDC):
            self.codec = DeepCompression(self.vae)
        size = self.index.get("default_sample_size") or DEFAULT_SIZE
        self.set_latent_shape(self.transformer.config.in_channels, size // self.codec.compression)

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        output, lengths = self.encoders[0].read(prompts, tokens, masked=True)
        return Condition(output[0], mask=within(lengths, output[0]))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return self.transformer(
            hidden_states=x_t.to(self.dtype),
            timestep=t.expand(len(x_t)).float() / 1000,
            encoder_hidden_states=condition.sequence.to(self.dtype),
            attention_mask=condition.mask,
            return_dict=False,
        )[0]


def clean(text: str) -> str:
    """Words as the model was trained on them.

    Raises:
        MissingPackage: ftfy is not installed.
    """
    return _cleaner()(text)


@cache
def _cleaner() -> Callable[[str], str]:
    with needs("prx"):
        import ftfy  # noqa: F401 (by which diffusers cleans)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # diffusers (0.42) is to rename what this file imports
        from diffusers.pipelines.prx.pipeline_prx import TextPreprocessor

    found: Callable[[str], str] = TextPreprocessor().clean_text
    return found
