"""Dropout where big_vision has it: on what attention and MLP add to the residual stream, before it is added.

transformers' Gemma has only `attention_dropout`, on the attention's weights, which is another method. So two forward
hooks a layer do it. In Gemma 2 and 3, whose branches end in a norm, attention's is after its norm and the MLP's before
its, as in big_vision's `ppp/gemma.py`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vilex.errors import InputError


def decoder_layers(lm: Any) -> list[Any]:
    """The layers of a language model of transformers.

    Raises:
        InputError: they are not where Gemma, Llama, Qwen and their like have them.
    """
    layers = getattr(lm.get_decoder(), "layers", None)
    if not isinstance(layers, nn.ModuleList) or not all(
        hasattr(one, "self_attn") and hasattr(one, "mlp") for one in layers
    ):
        raise InputError(
            f"model.base: a {type(lm).__name__}, whose layers have no self_attn and mlp; use Gemma, Llama or Qwen"
        )
    return list(layers)


class ResidualDropout:
    """Hooks on every layer of a language model; they act while it trains.

    Args:
        rate: share of numbers that become 0; the others grow by 1 / (1 - rate).
    """

    def __init__(self, lm: Any, rate: float):
        self.rate, self.seed = rate, 0
        for i, layer in enumerate(decoder_layers(lm)):
            normed = hasattr(layer, "post_feedforward_layernorm")
            attention = layer.post_attention_layernorm if normed else layer.self_attn
            for place, module in enumerate((attention, layer.mlp)):
                module.register_forward_hook(self._hook(2 * i + place))

    def begin(self, seed: int) -> None:
        """Set what the next pass draws from; activations that are computed again draw the same."""
        self.seed = seed

    def _hook(self, place: int) -> Any:
        def hook(module: nn.Module, _: Any, output: Any) -> Any:
            if not (module.training and self.rate):
                return output
            if isinstance(output, tuple):
                return (self._drop(output[0], place), *output[1:])
            return self._drop(output, place)

        return hook

    def _drop(self, x: Tensor, place: int) -> Tensor:
        generator = torch.Generator(x.device).manual_seed((self.seed * 1_000_003 + place) % 2**63)
        kept = torch.rand(x.shape, generator=generator, device=x.device) >= self.rate
        return x * kept / (1 - self.rate)
