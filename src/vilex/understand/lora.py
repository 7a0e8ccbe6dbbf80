"""Low-rank updates of a language model (Hu et al., arXiv 2106.09685), by peft, and their way into its weights."""

from typing import Any

from torch import nn

from vilex.extras import needs
from vilex.understand.residual_dropout import decoder_layers


def add_lora(lm: Any, rank: int, alpha: int) -> None:
    """Put updates beside every linear map of its layers, in place; they alone learn, and its class stays."""
    with needs("understand"):
        from peft import LoraConfig, inject_adapter_in_model

    inside = {id(module) for layer in decoder_layers(lm) for module in layer.modules()}
    names = [name for name, one in lm.named_modules() if id(one) in inside and isinstance(one, nn.Linear)]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=names), lm)


def merge_lora(lm: Any) -> None:
    """Add the updates to the weights, in place, and take them away; the model computes the same without peft."""
    with needs("understand"):
        from peft.tuners.tuners_utils import BaseTunerLayer

    found = [(name, one) for name, one in lm.named_modules() if isinstance(one, BaseTunerLayer)]
    for name, module in found:
        module.merge()
        parent, _, own = name.rpartition(".")
        setattr(lm.get_submodule(parent), own, module.get_base_layer())


def has_lora(lm: Any) -> bool:
    """Whether updates lie beside its weights."""
    return any(name.rpartition(".")[2] == "lora_A" for name, _ in lm.named_modules())
