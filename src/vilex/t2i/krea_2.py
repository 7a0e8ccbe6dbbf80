"""Krea 2: twelve layers of a vision-language model (Qwen3-VL), which the denoiser weighs itself.

Image tokens live in the language model's embedding table and are read as words are, in Qwen-Image's template; its
vision tower sees nothing. The pipeline pads between the prompt and the template's end, counts positions past the
padding and hides it from text encoder and denoiser, to which places of the text are all the same: padding stands
behind the template here, and changes nothing. The distilled model's noise levels are shifted by one number, the base's
by resolution. The pipeline's guidance scale counts from the prompt: its s is `Guidance(cfg=s + 1)` here.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vilex.errors import InputError
from vilex.prompt import Prompt
from vilex.t2i.base import Condition
from vilex.t2i.chat import ChatReader, template_frame, within
from vilex.t2i.codec import PerChannelLatents
from vilex.t2i.flux import pack, places, unpack
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.qwen_image import DEFAULT_SIZE, DROPPED, TEMPLATE
from vilex.t2i.text import TextEncoder

POSITIONS = 512
LAYERS = (2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35)  # where model_index.json says none: Qwen3-VL 4B's
DISTILLED_SHIFT, LARGEST = 1.15, 6400  # mu; places of a picture where the configuration says none


class Krea2(DiffusersT2I):
    """`FrozenT2I` over a Krea2Pipeline folder, distilled or base."""

    pipelines = ("Krea2Pipeline",)
    parts = {  # noqa: RUF012 (never changed)
        "tokenizer": ("Qwen2Tokenizer", "Qwen2TokenizerFast"),
        "text_encoder": ("Qwen3VLModel", "Qwen3VLForConditionalGeneration"),
        "transformer": ("Krea2Transformer2DModel",),
        "vae": ("AutoencoderKLQwenImage",),
    }
    denoiser = "transformer"
    square = 2
    mask_argument = "prompt_embeds_mask"
    mask_dtype = torch.bool
    codec_kind = PerChannelLatents
    even_sigmas = True

    def setup(self) -> None:
        if (patch := self.index.get("patch_size", 2)) != 2:
            raise InputError(f"model_index.json: patch_size {patch} is not supported; expected 2")
        words = self.tokenizers["tokenizer"]
        frame = template_frame(words, TEMPLATE, min(POSITIONS + DROPPED, words.model_max_length))
        self.encoders = [TextEncoder(self.text_encoder, frame, native=True)]
        layers = tuple(self.index.get("text_encoder_select_layers") or LAYERS)
        self.reader = ChatReader(self.encoders[0], layers=layers, dropped=DROPPED)
        shifts = {"base_shift": DISTILLED_SHIFT, "max_shift": DISTILLED_SHIFT} if self.index.get("is_distilled") else {}
        self.scheduler_config = {"max_image_seq_len": LARGEST, **self.scheduler_config, **shifts}
        side = getattr(self.vae.config, "sample_size", DEFAULT_SIZE) // self.codec.compression
        self.set_latent_shape(self.transformer.config.in_channels // 4, side)

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        sequence, lengths = self.reader.read(prompts, tokens)
        stacked = sequence.unflatten(-1, (len(self.reader.layers), -1))
        return Condition(stacked, mask=within(lengths, stacked))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        batch, _, height, width = x_t.shape
        text = torch.zeros(condition.sequence.shape[1], 3)
        prediction = self.transformer(
            hidden_states=pack(x_t.to(self.dtype)),
            encoder_hidden_states=condition.sequence.to(self.dtype),
            timestep=(t.expand(batch) / 1000).to(self.dtype),
            position_ids=torch.cat([text, places(height // 2, width // 2)]).to(x_t.device),
            encoder_attention_mask=condition.mask,
            return_dict=False,
        )[0]
        return unpack(prediction, height, width)
