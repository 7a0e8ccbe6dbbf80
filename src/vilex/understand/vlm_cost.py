"""What a step of a transfer costs: bytes and FLOPs on shapes alone, seconds on random weights of those shapes."""

from typing import Any

import torch
from torch import Tensor

from vilex.plan.memory import LiveBytes, bytes_of, measure
from vilex.plan.timing import time_step
from vilex.train.engine import PRECISION
from vilex.understand.config import TransferConfig
from vilex.understand.suffix_loss import token_losses
from vilex.understand.transfer_learning import make_transfer_optimizer
from vilex.understand.vlm import VisualLanguageModel


def count_vlm_step(
    config: TransferConfig,
    vlm: VisualLanguageModel,
    rows: int,
    images: int,
    tokens: int,
    processes: int,
    accumulates: bool = False,
) -> tuple[dict[str, int], int]:
    """Bytes a device needs, by what for, and FLOPs of one micro-batch.

    Args:
        vlm: a shape on the meta device. rows: a device takes at once. images: of each row. tokens: of its text.
        accumulates: whether gradients of another micro-batch are there while one is computed; the first one's grow
            while its activations shrink.
    """
    shards = processes if config.run.parallel == "fsdp" else 1
    gradients = sum(p.numel() * p.element_size() for p in vlm.parameters() if p.requires_grad)
    if accumulates:
        _forward_backward(config, vlm, rows, images, tokens, "meta")
    peak, flops = measure(lambda: _forward_backward(config, vlm, rows, images, tokens, "meta"))
    held, updating = _optimiser(config, vlm)
    activations = peak if accumulates else max(0, peak - gradients)
    memory = {
        "what looks": sum(bytes_of(module) for module in vlm.features.modules),
        "frozen weights": (bytes_of(vlm) - gradients) // shards,
        "trained weights": gradients // shards,
        "gradients": gradients // shards,
        "optimiser": held // shards,
        "activations": activations,
        "the optimiser's step": max(0, updating // shards - activations),
    }
    vlm.zero_grad()
    return memory, flops


def _optimiser(config: TransferConfig, vlm: VisualLanguageModel) -> tuple[int, int]:
    """Bytes that the optimiser keeps, and those that its step takes for a moment, when there are no activations.

    On accelerators torch updates all weights of a group at once, which takes as much again.
    """
    optimizer = make_transfer_optimizer(vlm, config)
    for group in optimizer.param_groups:
        group["foreach"] = config.run.device != "cpu"
    optimizer.step()
    with LiveBytes() as count:
        optimizer.step()
    held = [leaf for state in optimizer.state.values() for leaf in state.values() if isinstance(leaf, Tensor)]
    return sum(leaf.numel() * leaf.element_size() for leaf in held), count.peak


def _forward_backward(
    config: TransferConfig, vlm: VisualLanguageModel, rows: int, images: int, tokens: int, device: str
) -> None:
    precision = PRECISION[config.run.mixed_precision]
    parts = _see(config, vlm, rows * images, device)
    with torch.autocast("cpu" if device == "meta" else device.split(":")[0], precision, enabled=precision is not None):
        logits = _logits(vlm, parts, rows, tokens)
        labels = torch.zeros(rows, tokens, dtype=torch.long, device=device)
        loss = token_losses(logits, labels, config.objective.label_smoothing).mean()
    loss.backward()


def _see(config: TransferConfig, vlm: VisualLanguageModel, images: int, device: str) -> list[Tensor]:
    """Features of pictures: looked at, or as a cache keeps them."""
    features = vlm.features
    if config.features.cache:
        return [torch.zeros(images, part.count, part.width, device=device) for part in features.parts]
    side = features.views.preprocess.size
    return features(torch.zeros(images, features.views.count, 3, side, side, device=device))


def _logits(vlm: VisualLanguageModel, parts: list[Tensor], rows: int, tokens: int) -> Tensor:
    """What `VisualLanguageModel.logits` computes, of embeddings: where images go is nothing that a shape knows."""
    vectors = vlm.project(parts)
    lm: Any = vlm.lm
    words = lm.get_input_embeddings()(torch.zeros(rows, tokens, dtype=torch.long, device=vectors.device))
    row = torch.cat([vectors.reshape(rows, -1, vectors.shape[-1]).to(words.dtype), words], dim=1)
    length = row.shape[1]
    sees = torch.ones(rows, 1, length, length, dtype=torch.bool, device=row.device)
    places = torch.arange(length, device=row.device).expand(rows, -1)
    hidden = lm.get_decoder()(
        inputs_embeds=row, attention_mask=sees, position_ids=places, use_cache=False
    ).last_hidden_state
    return lm.get_output_embeddings()(hidden[:, -tokens:])


def time_vlm_step(
    config: TransferConfig,
    vlm: VisualLanguageModel,
    rows: int,
    images: int,
    tokens: int,
    accumulate: int,
    steps: int,
    device: str,
) -> float:
    """Seconds of one step; see `vilex.plan.timing.time_step`."""
    return time_step(
        (vlm, *(() if config.features.cache else vlm.features.modules)),
        lambda: make_transfer_optimizer(vlm, config),
        lambda: _forward_backward(config, vlm, rows, images, tokens, device),
        accumulate,
        steps,
        device,
    )
