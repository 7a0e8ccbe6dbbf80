"""What of a vision-language model learns, and at which rate."""

import torch
from torch import nn

from vilex.errors import InputError
from vilex.understand.config import TransferConfig
from vilex.understand.lora import add_lora
from vilex.understand.vlm import VisualLanguageModel


def choose_learning(vlm: VisualLanguageModel, config: TransferConfig) -> None:
    """Let learn what the configuration says; the eyes never do.

    Raises:
        InputError: that is nothing.
    """
    model = config.model
    vlm.requires_grad_(False)
    if model.train == "lora":
        add_lora(vlm.lm, model.lora_rank, model.lora_alpha)
    elif model.train == "lm":
        text = [vlm.lm.model.language_model, vlm.lm.lm_head] if vlm.is_paligemma else [vlm.lm]
        for module in text:
            module.requires_grad_(True)
    vlm.projectors.requires_grad_(True)
    if model.train_projector:
        for parameter in vlm.projector_parameters:
            parameter.requires_grad_(True)
    if not any(p.requires_grad for p in vlm.parameters()):
        raise InputError('config: model.train = "projector" and model.train_projector = false: nothing learns')


def make_transfer_optimizer(vlm: VisualLanguageModel, config: TransferConfig) -> torch.optim.Optimizer:
    """AdamW in groups: projectors and all else, each with the weights that decay and those that do not."""
    optim = config.optim
    projectors = {id(p) for p in vlm.projector_parameters}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in vlm.parameters():
        if parameter.requires_grad:
            of_projector = id(parameter) in projectors
            decays = parameter.ndim >= 2 and (of_projector or optim.decay == "matrices")
            groups.setdefault((of_projector, decays), []).append(parameter)
    made = []
    for (of_projector, decays), parameters in groups.items():
        lr = (optim.projector_lr or optim.lr) if of_projector else optim.lr
        made.append({"params": parameters, "lr": lr, "weight_decay": optim.weight_decay / lr if decays else 0.0})
    return torch.optim.AdamW(made, betas=(0.9, optim.b2))
