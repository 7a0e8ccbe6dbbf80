"""The weights of IP-Adapter's decoupled cross-attention (Ye et al., arXiv 2308.06721).

A key and a value projection for image tokens in each of the denoiser's cross-attention layers, as diffusers
names and holds them. They train with the pooler, so they live in the encoder; `vilex.t2i.ip_adapter` uses them.
"""

from collections.abc import Sequence

import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from torch import nn


class DecoupledAttention(nn.ModuleList):
    """A processor for each cross-attention layer, in the denoiser's order.

    Args:
        shapes: (hidden width, width of the text features) of each layer.
        num_tokens: of an image.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], num_tokens: int):
        super().__init__(IPAdapterAttnProcessor2_0(hidden, width, (num_tokens,)) for hidden, width in shapes)

    @torch.no_grad()
    def start_from(self, keys_and_values: Sequence[tuple[nn.Linear, nn.Linear]]) -> None:
        """Begin as the projections that read words."""
        for own, (key, value) in zip(self, keys_and_values, strict=True):
            own.get_submodule("to_k_ip.0").load_state_dict({"weight": key.weight})
            own.get_submodule("to_v_ip.0").load_state_dict({"weight": value.weight})
