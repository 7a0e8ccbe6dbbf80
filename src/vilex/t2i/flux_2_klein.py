"""FLUX.2 klein: three layers of a language model (Qwen3) side by side, a flow-matching transformer.

The prompt stands in the model's own chat template, without thinking; its hidden states after three layers are
concatenated, padding to 512 positions among them. The auto-encoder's latents are taken in squares of 2 x 2 and
normalised by a batch norm's running statistics. How far noise levels are shifted depends on the number of steps too:
training takes that of `TRAINING_STEPS`. The distilled models (4 steps) want no guidance; the bases take CFG.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.chat import ChatReader, chat_frame
from vilex.t2i.codec import BatchNormLatents
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.schedule import set_shifted_steps, shift_by
from vilex.t2i.text import TextEncoder

POSITIONS = 512
LAYERS = (9, 18, 27)
TRAINING_STEPS = 50  # the pipeline's default, whose shift training's levels get


class Flux2Klein(DiffusersT2I):
    """`FrozenT2I` over a Flux2KleinPipeline folder, distilled or base."""

    pipelines = ("Flux2KleinPipeline",)
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("Qwen2Tokenizer", "Qwen2TokenizerFast"),
        "text_encoder": ("Qwen3ForCausalLM",),
        "transformer": ("Flux2Transformer2DModel",),
        "vae": ("AutoencoderKLFlux2",),
    }
    denoiser = "transformer"
    codec_kind = BatchNormLatents
    even_sigmas = True

    def setup(self) -> None:
        words = self.tokenizers["tokenizer"]
        frame = chat_frame(words, min(POSITIONS, words.model_max_length), thinking=False)
        self.encoders = [TextEncoder(self.text_encoder, frame, native=True)]
        self.reader = ChatReader(self.encoders[0], layers=LAYERS)
        config = self.transformer.config
        self.set_latent_shape(config.in_channels, self.vae.config.sample_size // self.codec.compression)

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        return Condition(self.reader.read(prompts, tokens)[0])

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        batch, _, height, width = x_t.shape
        prediction = self.transformer(
            hidden_states=x_t.flatten(2).transpose(1, 2).to(self.dtype),
            timestep=t.expand(batch).to(self.dtype) / 1000,
            guidance=None,
            encoder_hidden_states=condition.sequence.to(self.dtype),
            txt_ids=grid(1, 1, condition.sequence.shape[1]).expand(batch, -1, -1).to(x_t.device),
            img_ids=grid(height, width, 1).expand(batch, -1, -1).to(x_t.device),
            return_dict=False,
        )[0]
        return prediction.transpose(1, 2).unflatten(2, (height, width))

    def prepare(self, scheduler: Any, steps: int) -> None:
        even = type(scheduler).__name__.startswith("FlowMatchEuler")
        how = {"sigmas": np.linspace(1.0, 1 / steps, steps)} if even else {"num_inference_steps": steps}
        set_shifted_steps(scheduler, offset(self.image_positions, steps), device=self.device, **how)

    def shifted(self, level: Tensor) -> Tensor:
        return shift_by(level, float(np.exp(offset(self.image_positions, TRAINING_STEPS))))


def grid(height: int, width: int, length: int) -> Tensor:
    """(0, row, column, place in the text) of every place, [height width length, 4]."""
    return torch.cartesian_prod(torch.arange(1), torch.arange(height), torch.arange(width), torch.arange(length))


def offset(positions: int, steps: int) -> float:
    """mu for a picture of so many positions and so many steps: two lines that were fitted, one for 10 steps and one
    for 200 and beyond 4300 positions, and what lies between them (diffusers' `compute_empirical_mu`)."""
    at_200 = 0.00016927 * positions + 0.45666666
    if positions > 4300:
        return at_200
    at_10 = 8.73809524e-05 * positions + 1.89833333
    slope = (at_200 - at_10) / 190
    return slope * steps + at_200 - 200 * slope
