"""The bill up front: what a run trains, what it costs in memory, arithmetic and time. No weights are read."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from vilex.data.buckets import Size
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.plan.cost import count_flops, count_step, time_training_step
from vilex.plan.remembered import RememberedShapes
from vilex.t2i import shape_of
from vilex.t2i.attention import suit_attention
from vilex.t2i.folder import DiffusersT2I
from vilex.train.config import TrainConfig
from vilex.train.consistency import settle
from vilex.train.models import checkpoint_activations, encoder_shape
from vilex.train.objective import tail_drop
from vilex.train.optim import choose_trained
from vilex.train.sizes import largest, training_sizes


@dataclass(frozen=True)
class Plan:
    """What a run will take, for each of `processes` devices.

    Attributes:
        trained, frozen: parameters by part.
        micro_batch: images a device takes at once; `accumulate` of those, of all processes, are one step.
        memory: bytes a device needs, by what for; their sum is the peak.
        flops: of one step, all devices together (forward, backward and what checkpointing does again).
        tokens: image tokens the run trains on, all images together, as TailDrop leaves them on average.
        seconds: of one step, measured; None if nothing was measured.
        sizes: of the pictures that are drawn, if not the frozen model's own; of several the largest is counted.
        first: the stage in which the tower waits, if there is one; memory is that of the other, which needs more.
    """

    processes: int
    batch_size: int
    micro_batch: int
    accumulate: int
    steps: int
    trained: dict[str, int]
    frozen: dict[str, int]
    memory: dict[str, int]
    flops: int
    tokens: int
    seconds: float | None
    first: "Stage | None" = None
    sizes: tuple[Size, ...] = ()

    @property
    def peak(self) -> int:
        """Bytes of a device at the most: all that memory is for."""
        return sum(self.memory.values())

    @property
    def all_flops(self) -> int:
        """Of all steps, all devices together."""
        first = self.first or Stage(0, 0, None)
        return first.steps * first.flops + (self.steps - first.steps) * self.flops

    @property
    def all_seconds(self) -> float | None:
        """Of all steps, measured; None if nothing was measured."""
        if self.seconds is None:
            return None
        first = self.first or Stage(0, 0, 0.0)
        return first.steps * (first.seconds or 0.0) + (self.steps - first.steps) * self.seconds


@dataclass(frozen=True)
class Stage:
    """So many steps, and FLOPs and seconds of one, as in `Plan`."""

    steps: int
    flops: int
    seconds: float | None


def make_plan(config: TrainConfig, processes: int = 1, measure: int = 0, device: str = "cpu") -> Plan:
    """Work out a run's plan: on CPUs where `run.device` says so, else on devices with fused attention.

    Args:
        measure: so many real steps are timed on `device`, after one to warm up; 0 for none.
    Raises:
        InputError: a model's configuration cannot be had, or values do not fit together.
    """
    config.check()
    t2i = shape_of(config.model.base, getattr(torch, config.model.frozen_dtype))
    suit_attention(t2i, config.run.device)
    config = settle(config, t2i.width)
    encoder = _trained_shape(config, t2i)
    micro, accumulate = _parts(config, processes)
    shapes = RememberedShapes()
    with shapes:
        memory, flops = count_step(config, t2i, encoder, micro, processes)
    alone, whole, first, seconds = config.optim.tower_frozen_steps, accumulate * processes, None, None
    if alone:
        encoder.tower_waits = True
        with shapes:
            first = Stage(alone, count_flops(config, t2i, encoder, micro) * whole, None)
        if measure:
            first = replace(first, seconds=time_training_step(config, t2i, encoder, micro, accumulate, measure, device))
        encoder.tower_waits = False
    if measure:
        seconds = time_training_step(config, t2i, encoder, micro, accumulate, measure, device)
    chances = (torch.arange(10_000) + 0.5) / 10_000
    kept = tail_drop(chances, config.model.num_tokens, config.objective.tail_drop).float().mean().item()
    return Plan(
        processes=processes,
        batch_size=config.run.batch_size,
        micro_batch=micro,
        accumulate=accumulate,
        steps=config.run.steps,
        trained={name: _size(getattr(encoder, name)) for name in ("tower", "pooler")},
        frozen=t2i.sizes,
        memory=memory,
        flops=flops * whole,
        tokens=int(kept * config.run.batch_size * config.run.steps),
        seconds=seconds,
        first=first,
        sizes=training_sizes(config.data, t2i) if config.data.sizes else (),
    )


def remedies(config: TrainConfig, processes: int) -> list[tuple[str, int]]:
    """Settings that would lower a run's peak memory, most helpful first, with the bytes they would save."""
    run, (micro, _) = config.run, _parts(config, processes)
    variants = {
        f"run.micro_batch={max(1, micro // 2)}": replace(run, micro_batch=max(1, micro // 2)),
        "run.gradient_checkpointing=true": replace(run, gradient_checkpointing=True),
        "run.mixed_precision=bf16": replace(run, mixed_precision="bf16"),
    }
    if processes > 1 and config.optim.name == "adamw":
        variants["run.parallel=fsdp"] = replace(run, parallel="fsdp")
    others = {name: replace(config, run=changed) for name, changed in variants.items() if changed != run}
    if config.model.frozen_dtype == "float32":
        others["model.frozen_dtype=bfloat16"] = replace(config, model=replace(config.model, frozen_dtype="bfloat16"))
    if not config.model.quantize:
        others["model.quantize=int8"] = replace(config, model=replace(config.model, quantize="int8"))
    now = make_plan(config, processes).peak
    saved = {name: now - make_plan(other, processes).peak for name, other in others.items()}
    return sorted(((name, value) for name, value in saved.items() if value > 0), key=lambda item: -item[1])


def describe(plan: Plan) -> dict[str, str]:
    """A plan as titles and lines to read."""
    whole = f"{plan.processes} process{'es' * (plan.processes > 1)} x {plan.micro_batch} images"
    if plan.accumulate > 1:
        whole += f" x {plan.accumulate} micro-batches"
    memory = ", ".join(f"{name} {gigabytes(value)}" for name, value in plan.memory.items())
    first = plan.first
    lines = {
        "trains": ", ".join(f"{name} {value / 1e6:.1f} M" for name, value in plan.trained.items()),
        "frozen": ", ".join(f"{name} {value / 1e6:.1f} M" for name, value in plan.frozen.items()),
        "batch": f"{plan.batch_size} images = {whole}",
        "memory": f"{gigabytes(plan.peak)} GB a device: {memory}",
        "arithmetic": f"{plan.flops / 1e12:.4g} TFLOP a step",
    }
    if first:
        lines["arithmetic"] += f", {first.flops / 1e12:.4g} of the first {first.steps}, in which the tower waits"
    if plan.seconds is not None and plan.all_seconds is not None:
        lines["time"] = f"{duration(1000 * plan.seconds)} for 1000 steps, {duration(plan.all_seconds)} in all"
        if first and first.seconds is not None:
            lines["time"] += f", {duration(first.steps * first.seconds)} of it with the tower waiting"
    if plan.sizes:
        lines["pictures"] = _sizes(plan.sizes)
    images = plan.steps * plan.batch_size
    lines["in all"] = f"{plan.steps} steps, {images} images, {plan.tokens} image tokens"
    return lines


def _sizes(sizes: tuple[Size, ...]) -> str:
    said = ", ".join(f"{width}x{height}" for width, height in sizes)
    if len(sizes) == 1:
        return said
    width, height = largest(sizes)
    return f"{said}; a micro-batch is of one size, all counted as {width}x{height}"


def advise(config: TrainConfig, processes: int) -> str:
    """What to do when memory runs out: the three settings that would help most, with what they save."""
    found = [f"{name} (about {gigabytes(value)} GB less)" for name, value in remedies(config, processes)[:3]]
    return "out of memory; what would help most: " + ", ".join(found or ["a smaller model"])


def _trained_shape(config: TrainConfig, t2i: DiffusersT2I) -> ViLexEncoder:
    encoder = encoder_shape(config, t2i)
    choose_trained(encoder, config.optim)
    if config.run.gradient_checkpointing:
        checkpoint_activations(t2i, encoder)
    return encoder.train()


def _parts(config: TrainConfig, processes: int) -> tuple[int, int]:
    """Images of a micro-batch, and how many of those a process takes in a step."""
    part = config.run.batch_size // processes
    if not part or config.run.batch_size % processes:
        raise InputError(f"run.batch_size: {config.run.batch_size} is no multiple of the {processes} processes")
    micro = min(config.run.micro_batch or part, part)
    return micro, -(-part // micro)


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def gigabytes(size: int) -> str:
    """Bytes in GB, three digits of them."""
    return f"{size / 2**30:.3g}"


def duration(seconds: float) -> str:
    """A time in the largest unit of which there are two."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"
