"""What trains, and by which rule: Adafactor with the paper's schedule; AdamW or Muon as options."""

import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers.optimization import Adafactor

from vilex.encoder import ViLexEncoder
from vilex.encoder.towers import patches_of
from vilex.train.config import OptimConfig
from vilex.train.muon import MuonWithAdamW


def choose_trained(encoder: ViLexEncoder, config: OptimConfig) -> None:
    """Let tower and pooler learn, unless their rate is 0, and of the tower only what a gradient reaches.

    A tower may hold weights that its patches do not depend on (a mask token, the norm of the class
    token). Optimisers would skip them anyway; DDP would wait for their gradients. A baseline's adapter
    learns as the pooler does.
    """
    for module, lr in ((encoder.tower, config.tower_lr), *((part, config.pooler_lr) for part in _read_out(encoder))):
        module.requires_grad_(lr > 0)
    size = encoder.config.image_size
    pixels = torch.zeros(1, 3, size, size, device=encoder.device, dtype=encoder.dtype)
    if trained := [p for p in encoder.tower.parameters() if p.requires_grad]:
        gradients = torch.autograd.grad(patches_of(encoder.tower, pixels).sum(), trained, allow_unused=True)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)


def make_optimizer(
    encoder: ViLexEncoder, config: OptimConfig, products: torch.dtype = torch.float32
) -> torch.optim.Optimizer:
    """Groups with two rates: the tower's (1e-5 in the paper) and the pooler's (3e-4).

    Muon splits each part into two groups, the weights of its linear layers and the rest; `products`: the format that it
    multiplies in on CPUs.
    """
    groups = []
    read_out = [p for module in _read_out(encoder) for p in module.parameters()]
    for parameters, lr in ((encoder.tower.parameters(), config.tower_lr), (read_out, config.pooler_lr)):
        if trained := [p for p in parameters if p.requires_grad]:
            groups.append({"params": trained, "lr": lr})
    if config.name == "muon":
        matrices = {module.weight for module in encoder.modules() if isinstance(module, nn.Linear)}
        return MuonWithAdamW(groups, matrices, config.weight_decay, products)
    if config.name == "adamw":
        fused = encoder.device.type != "meta"  # shapes alone have no fused kernels
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay, betas=(0.9, 0.99), fused=fused)
    return Adafactor(
        groups,
        lr=config.pooler_lr,
        weight_decay=config.weight_decay,
        scale_parameter=False,
        relative_step=False,
        warmup_init=False,
    )


def make_schedule(optimizer: torch.optim.Optimizer, config: OptimConfig, steps: int) -> LambdaLR:
    """Linear warm-up, then cosine decay to zero at the last step; the tower's begins when its stage does."""
    whole = get_cosine_schedule_with_warmup(optimizer, config.warmup_steps, steps)
    if not config.tower_frozen_steps:
        return whole
    later = get_cosine_schedule_with_warmup(optimizer, config.warmup_steps, steps - config.tower_frozen_steps)

    def of_tower(step: int) -> float:
        after = step - config.tower_frozen_steps
        return later.lr_lambdas[0](after) if after > 0 else 0.0

    each = len(optimizer.param_groups) // 2  # groups of a part
    return LambdaLR(optimizer, [of_tower] * each + whole.lr_lambdas[each:])


def _read_out(encoder: ViLexEncoder) -> list[nn.Module]:
    """All that is new above the tower."""
    return [encoder.pooler] if encoder.adapter is None else [encoder.pooler, encoder.adapter]
