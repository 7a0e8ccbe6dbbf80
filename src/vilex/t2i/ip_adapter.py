"""A frozen model that image tokens reach past the text encoder: IP-Adapter's decoupled cross-attention.

Words go through the text encoder as ever; image tokens go straight to every cross-attention layer, which adds
what it reads from them to what it reads from the words. Behind the same protocol, so that training, guidance
and evaluation need not know. Without an image it is the base model itself, to the bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from vilex.encoder.ip_adapter import DecoupledAttention
from vilex.errors import InputError
from vilex.prompt import Prompt, Slot
from vilex.t2i.base import Condition
from vilex.t2i.folder import DiffusersT2I


class IPAdapterT2I:
    """`FrozenT2I` over a model with cross-attention and an adapter; all that is not said here is the base's."""

    def __init__(self, base: DiffusersT2I, adapter: DecoupledAttention):
        self.base, self.adapter = base, adapter
        install(base.network)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["base"], name)

    def read(self, prompts: Sequence[Prompt], tokens: Sequence[Mapping[str, Tensor]]) -> Condition:
        """As the protocol says; pictures of one batch have equally many image tokens, or none.

        Raises:
            InputError: they have not.
        """
        words = self.base.read([prompt.words_only() for prompt in prompts], [{}] * len(prompts))
        images = [
            [named[slot.name][: slot.count] for slot in prompt.image_only().parts if isinstance(slot, Slot)]
            for prompt, named in zip(prompts, tokens, strict=True)
        ]
        counts = {sum(map(len, parts)) for parts in images if parts}
        if len(counts) > 1:
            raise InputError(
                f"ip-adapter: prompts with {' and '.join(map(str, sorted(counts)))} image tokens cannot be drawn "
                "together; give all the same, as in <cat:4>, in negative prompts too"
            )
        if not counts:
            return words
        absent = words.sequence.new_zeros(*counts, self.base.width)  # without bias: adds exactly nothing
        rows = [torch.cat(parts).to(absent) if parts else absent for parts in images]
        return replace(words, image=torch.stack(rows), adapter=self.adapter)

    def chunking(self, chunks: int) -> "IPAdapterT2I":
        """See `FrozenT2I.chunking`."""
        return IPAdapterT2I(self.base.chunking(chunks), self.adapter)

    def sized(self, width: int, height: int) -> "IPAdapterT2I":
        """See `FrozenT2I.sized`."""
        return IPAdapterT2I(self.base.sized(width, height), self.adapter)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """See `FrozenT2I.predict`."""
        install(self.base.network)  # again where somebody has set other processors since
        return self.base.predict(x_t, t, condition)


class DecoupledProcessor:
    """A cross-attention layer's processor, which holds no adapter: who calls hands his own over with the tokens.

    No module itself, so that the frozen denoiser does not count an adapter as its own.

    Args:
        index: which of the denoiser's cross-attention layers it is. plain: what processes words alone.
    """

    def __init__(self, index: int, plain: Any):
        self.index, self.plain = index, plain

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_hidden_states: tuple[DecoupledAttention, Tensor] | None = None,
    ) -> Tensor:
        if ip_hidden_states is None:
            return self.plain(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        adapter, tokens = ip_hidden_states
        both = (encoder_hidden_states, [tokens])
        return adapter[self.index](attn, hidden_states, both, attention_mask, temb)


def cross_attention(unet: nn.Module) -> list[Attention]:
    """The layers that read the condition, in the denoiser's order."""
    return [module for name, module in unet.named_modules() if name.endswith("attn2") and isinstance(module, Attention)]


def adapter_shapes(t2i: DiffusersT2I) -> list[tuple[int, int]]:
    """What `DecoupledAttention` is built from.

    Raises:
        InputError: the denoiser has no layers of cross-attention that read as wide a token.
    """
    layers = cross_attention(t2i.network) if t2i.denoiser == "unet" else []
    if not layers or any(layer.to_k.in_features != t2i.width for layer in layers):
        raise InputError(
            f"model.method: ip-adapter needs cross-attention over the text, which {t2i.pipelines[0]} has not; "
            "use Stable Diffusion 1.x, 2.x or XL"
        )
    return [(layer.to_k.out_features, layer.to_k.in_features) for layer in layers]


def install(unet: nn.Module) -> None:
    """Let every cross-attention layer read image tokens by whatever adapter comes with them."""
    for index, layer in enumerate(cross_attention(unet)):
        if not isinstance(layer.processor, DecoupledProcessor):
            layer.processor = DecoupledProcessor(index, layer.processor)
