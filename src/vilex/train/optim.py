"""Adafactor with the paper's schedule, AdamW as the option, and the average of the weights."""

import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from transformers.optimization import Adafactor

from vilex.encoder import ViLexEncoder
from vilex.train.config import OptimConfig


def make_optimizer(encoder: ViLexEncoder, config: OptimConfig) -> torch.optim.Optimizer:
    """Two groups with rates of their own: the tower's (1e-5 in the paper) and the pooler's (3e-4).

    A rate of 0 freezes its part: no gradients are computed for it.
    """
    groups = []
    for module, lr in ((encoder.tower, config.tower_lr), (encoder.pooler, config.pooler_lr)):
        module.requires_grad_(lr > 0)
        if lr > 0:
            groups.append({"params": list(module.parameters()), "lr": lr})
    if config.name == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay, betas=(0.9, 0.99))
    return Adafactor(
        groups,
        lr=config.pooler_lr,
        weight_decay=config.weight_decay,
        scale_parameter=False,
        relative_step=False,
        warmup_init=False,
    )


def make_schedule(
    optimizer: torch.optim.Optimizer, config: OptimConfig, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up, then cosine decay to zero at the last step."""
    return get_cosine_schedule_with_warmup(optimizer, config.warmup_steps, steps)
