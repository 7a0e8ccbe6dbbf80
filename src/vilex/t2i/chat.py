"""Language models as text encoders: a prompt in a template, its hidden states, and what a denoiser is given of them.

    before  a photo of v1..vn in the snow  after  padding
    |dropped|          what is kept              |trimmed or read by the denoiser

A language model sees backwards only, so what stands after the prompt, padding included, changes nothing before it:
padding stands to the right, and positions count from the template's first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from vilex.composition import Frame
from vilex.prompt import Prompt
from vilex.t2i.frames import framed
from vilex.t2i.text import TextEncoder

MARK = "\0"  # stands for the prompt where a template is cut


@dataclass(frozen=True)
class ChatReader:
    """How a family reads prompts by a language model.

    Attributes:
        encoder: the model with its template as the frame.
        layers: whose hidden states are concatenated: 0 the embeddings, -1 the last layer's, normalised.
        dropped: positions at the beginning that the denoiser is not given.
        trimmed: whether padding ends with the longest prompt instead of after all positions.
        nothing: the frame of a prompt without words and images, and of what is steered away from, where it is another
            one.
    """

    encoder: TextEncoder
    layers: tuple[int, ...] = (-2,)
    dropped: int = 0
    trimmed: bool = False
    nothing: Frame | None = None

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
        """B prompts with their images' tokens [n, d] by name.

        Returns:
            Hidden states [B, L, d times the number of layers]; [B] on the CPU, how many of them are the prompt's.
        """
        frames = framed(prompts, self.encoder.frame, self.nothing or self.encoder.frame)
        how: dict[str, Any] = {"output_hidden_states": True, "use_cache": False}
        if "logits_to_keep" in signature(self.encoder.model.forward).parameters:
            how["logits_to_keep"] = 1  # nobody asks for the next word
        output, lengths = self.encoder.read(prompts, tokens, masked=True, trimmed=self.trimmed, frames=frames, **how)
        states = [output.hidden_states[layer][:, self.dropped :] for layer in self.layers]
        return torch.cat(states, dim=-1), lengths - self.dropped


def within(lengths: Tensor, sequence: Tensor, device: str | None = None) -> Tensor:
    """Which positions of a sequence [B, L, d] are the prompt's, [B, L] on a device, its own by default.

    Args:
        lengths: [B] on the CPU.
    """
    return (torch.arange(sequence.shape[1]) < lengths[:, None]).to(device or sequence.device)


def chat_frame(tokenizer: Any, positions: int, thinking: bool = True) -> Frame:
    """The model's own chat template around a user's message, as ids before and after it."""
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": MARK}], tokenize=False, add_generation_prompt=True, enable_thinking=thinking
    )
    return template_frame(tokenizer, chat, positions)


def template_frame(tokenizer: Any, template: str, positions: int) -> Frame:
    """Any template in which `MARK` stands for the prompt."""
    before, after = (tuple(tokenizer(part, add_special_tokens=False).input_ids) for part in template.split(MARK))
    return Frame(tokenizer, positions, before, after, bare=True)
