"""What a training step costs: bytes and FLOPs on shapes alone, seconds on random weights of those shapes.

On the meta device the very step that training takes runs without data; see `vilex.plan.memory`.
"""

import torch
from torch import Tensor

from vilex.data import Batch
from vilex.encoder import ViLexEncoder
from vilex.lexicon import TOGETHER
from vilex.plan.memory import bytes_of, flops_of, measure, sampling_memory
from vilex.plan.timing import time_step
from vilex.t2i import attach_adapter
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.parts import frozen_bytes
from vilex.train.config import TrainConfig
from vilex.train.engine import PRECISION
from vilex.train.objective import DenoisingObjective
from vilex.train.optim import make_optimizer
from vilex.train.sizes import largest, training_sizes


def count_step(
    config: TrainConfig, t2i: DiffusersT2I, encoder: ViLexEncoder, micro: int, processes: int
) -> tuple[dict[str, int], int]:
    """Bytes a device needs, by what for, and FLOPs of one micro-batch.

    Previews are drawn between steps, where gradients and activations are gone; they count with what they need more.

    Args:
        t2i, encoder: shapes on the meta device. micro: images a device takes at once.
    """
    shards = processes if config.run.parallel == "fsdp" else 1
    trained = [p for p in encoder.parameters() if p.requires_grad]
    peak, flops = measure(lambda: _forward_backward(config, t2i, encoder, micro, "meta"))
    gradients = sum(p.numel() * p.element_size() for p in trained)
    optimizer = make_optimizer(encoder, config.optim)
    optimizer.step()
    held = [leaf for state in optimizer.state.values() for leaf in state.values() if isinstance(leaf, Tensor)]
    memory = {
        "frozen weights": frozen_bytes(t2i, config.model.quantize or None),
        "trained weights": bytes_of(encoder) // shards,
        "gradients": gradients // shards,
        "optimiser": sum(leaf.numel() * leaf.element_size() for leaf in held) // shards,
        "average": (gradients if config.optim.ema_decay else 0) // shards,
        "activations": max(0, peak - gradients),
    }
    encoder.zero_grad()
    beyond = preview_bytes(config, t2i, encoder) - memory["gradients"] - memory["activations"]
    return {**memory, "previews": max(0, beyond)}, flops


def count_flops(config: TrainConfig, t2i: DiffusersT2I, encoder: ViLexEncoder, micro: int) -> int:
    """FLOPs of one micro-batch; see `count_step`."""
    flops = flops_of(lambda: _forward_backward(config, t2i, encoder, micro, "meta"))
    encoder.zero_grad()
    return flops


def preview_bytes(config: TrainConfig, t2i: DiffusersT2I, encoder: ViLexEncoder) -> int:
    """Bytes that previews take while no step does: a copy of the encoder, the tower as it was, and sampling."""
    if not config.run.sample_every:
        return 0
    images = min(config.run.sample_images, TOGETHER)
    shown = t2i.sized(*training_sizes(config.data, t2i)[0])
    sampling = sampling_memory(shown, rows=2 * images, pictures=images)
    return bytes_of(encoder) + bytes_of(encoder.tower) + max(sampling.activations.values())


def _forward_backward(config: TrainConfig, t2i: DiffusersT2I, encoder: ViLexEncoder, micro: int, device: str) -> None:
    words = config.model.method == "de-diffusion"
    objective = DenoisingObjective(attach_adapter(encoder, t2i), config.objective, seed=0, words=words)
    caption = " ".join(["a"] * config.objective.caption_tokens)
    (width, height), size = largest(training_sizes(config.data, t2i)), encoder.config.image_size
    batch = Batch(
        torch.zeros(micro, 3, height, width, device=device),
        torch.zeros(micro, 3, size, size, device=device),
        [caption] * micro,
        visits=torch.arange(micro),
        weights=torch.ones(micro),
    )
    precision = PRECISION[config.run.mixed_precision]
    kind = "cpu" if device == "meta" else device.split(":")[0]
    with torch.autocast(kind, precision, enabled=precision is not None):
        loss, _ = objective(encoder, config.model.num_tokens, batch)
    loss.backward()


def time_training_step(
    config: TrainConfig,
    t2i: DiffusersT2I,
    encoder: ViLexEncoder,
    micro: int,
    accumulate: int,
    steps: int,
    device: str,
) -> float:
    """Seconds of one step; see `vilex.plan.timing.time_step`."""
    return time_step(
        (*t2i.modules, encoder),
        lambda: make_optimizer(encoder, config.optim),
        lambda: _forward_backward(config, t2i, encoder, micro, device),
        accumulate,
        steps,
        device,
    )
