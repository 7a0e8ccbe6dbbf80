"""The bill of a transfer up front: what learns, memory by part, steps, pictures, time. No weights are read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from vilex.errors import InputError
from vilex.plan.plan import duration, gigabytes
from vilex.plan.remembered import RememberedShapes
from vilex.understand.config import TransferConfig
from vilex.understand.examples import Example
from vilex.understand.layout import Layout
from vilex.understand.samples import rows_of
from vilex.understand.transfer import read_training
from vilex.understand.vlm import VisualLanguageModel
from vilex.understand.vlm_cost import count_vlm_step, time_vlm_step
from vilex.understand.vlm_shape import shape_of_vlm

LONGEST = 64  # rows that have most letters, of which the one with most tokens is looked for
LINES = 20  # of a run's log, the last ones
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Asked:
    """What a row is.

    Attributes:
        examples, rows: how many there are; 0 where the files are not at hand. pictures: different ones.
        images: of a row, the most. tokens: of its text, the most.
    """

    examples: int
    rows: int
    pictures: int
    images: int
    tokens: int


@dataclass(frozen=True)
class TransferPlan:
    """What a transfer will take, for each of `processes` devices.

    Attributes:
        trained, frozen: parameters by part. vectors: of an image. asked: the examples.
        micro_batch: rows a device takes at once; `accumulate` of those, of all processes, are one step.
        memory: bytes a device needs, by what for; their sum is the peak.
        flops: of one step, all devices together.
        cache: bytes on disk that features of all pictures take; 0 where none are kept.
        seconds: of one step; None if nothing was measured. measured: where that is from.
    """

    processes: int
    batch_size: int
    micro_batch: int
    accumulate: int
    steps: int
    vectors: int
    asked: Asked
    trained: dict[str, int]
    frozen: dict[str, int]
    memory: dict[str, int]
    flops: int
    cache: int
    seconds: float | None
    measured: str

    @property
    def peak(self) -> int:
        """Bytes of a device at the most: all that memory is for."""
        return sum(self.memory.values())


def plan_transfer(config: TransferConfig, processes: int = 1, measure: int = 0, device: str = "cpu") -> TransferPlan:
    """Work out a transfer's plan.

    Args:
        measure: so many real steps are timed on `device`, after one to warm up; with 0, the run's own log is looked
            at, where it has one.
    Raises:
        InputError: a model's configuration cannot be had, values do not fit together, or the number of steps is that
            of examples, whose file is not there.
    """
    config.check()
    run = config.run
    vlm = shape_of_vlm(config)
    asked = _asked(config, vlm.layout)
    if run.batch_size % processes:
        raise InputError(f"run.batch_size: {run.batch_size} is no multiple of the {processes} processes")
    part = run.batch_size // processes
    micro = min(run.micro_batch or part, part)
    accumulate = -(-part // micro)
    with RememberedShapes():
        memory, flops = count_vlm_step(config, vlm, micro, asked.images, asked.tokens, processes, accumulate > 1)
    trained, frozen = _sizes(vlm)
    seconds: float | None
    if measure:
        seconds = time_vlm_step(config, vlm, micro, asked.images, asked.tokens, accumulate, measure, device)
        measured = f"{measure} steps here, on random weights"
    else:
        seconds, measured = _from_log(config)
    numbers = sum(one.count * one.width for one in vlm.features.parts)
    return TransferPlan(
        processes=processes,
        batch_size=run.batch_size,
        micro_batch=micro,
        accumulate=accumulate,
        steps=run.steps or max(1, round(run.epochs * asked.rows / run.batch_size)),
        vectors=vlm.features.count,
        asked=asked,
        trained=trained,
        frozen=frozen,
        memory=memory,
        flops=flops * accumulate * processes,
        cache=numbers * BYTES[config.features.cache_dtype] * asked.pictures if config.features.cache else 0,
        seconds=seconds,
        measured=measured,
    )


def describe_transfer(plan: TransferPlan) -> dict[str, str]:
    """A plan as titles and lines to read."""
    asked = plan.asked
    whole = f"{plan.processes} process{'es' * (plan.processes > 1)} x {plan.micro_batch}"
    if plan.accumulate > 1:
        whole += f" x {plan.accumulate} micro-batches"
    images = plan.steps * plan.batch_size * asked.images
    lines = {
        "learns": _millions(plan.trained),
        "frozen": _millions(plan.frozen),
        "a row": f"{asked.images} x {plan.vectors} vectors and {asked.tokens} tokens at most",
        "batch": f"{plan.batch_size} rows = {whole}",
        "memory": f"{gigabytes(plan.peak)} GB a device: "
        + ", ".join(f"{name} {gigabytes(value)}" for name, value in plan.memory.items() if value),
        "arithmetic": f"{plan.flops / 1e12:.4g} TFLOP a step",
    }
    if plan.cache:
        lines["on disk"] = f"features of {asked.pictures} pictures: {gigabytes(plan.cache)} GB"
    if plan.seconds is not None:
        lines["time"] = (
            f"{duration(1000 * plan.seconds)} for 1000 steps, {duration(plan.steps * plan.seconds)} in all; measured: "
            f"{plan.measured}"
        )
    lines["in all"] = f"{plan.steps} steps, {images} pictures seen"
    if asked.rows:
        epochs = plan.steps * plan.batch_size / asked.rows
        lines["in all"] += f", {epochs:.3g} epochs of {asked.examples} examples"
    return lines


def _asked(config: TransferConfig, layout: Layout) -> Asked:
    """The examples, where their files are there; else what the configuration says of them."""
    data = config.data
    longest = (data.text_length + 1) * max(1, data.pack)
    missing = next((one.path for one in data.files if not Path(one.path).is_file()), None)
    if missing and not config.run.steps:
        raise InputError(
            f"config: data.train: {missing} is not there, so that run.epochs says no number of steps; give the file, "
            "or run.steps=1000 for a plan"
        )
    if missing:
        return Asked(0, 0, 0, 1, longest)
    examples = read_training(config)
    rows = rows_of(examples, data.pack)
    return Asked(
        examples=len(examples),
        rows=len(rows),
        pictures=len({image for example in examples for image in example.images}),
        images=max(len(example.images) for example in examples),
        tokens=min(longest, _most_tokens([[examples[i] for i in row] for row in rows], layout)),
    )


def _most_tokens(rows: Sequence[Sequence[Example]], layout: Layout) -> int:
    """Tokens of the longest text among those with most letters; each question is cut to the layout's length."""

    def letters(row: Sequence[Example]) -> int:
        return sum(len(one.prefix) + max(map(len, one.suffixes)) for one in row)

    def tokens(row: Sequence[Example]) -> int:
        texts = [layout.prompt(one.prefix) + layout.suffix(max(one.suffixes, key=len)) for one in row]
        return sum(min(len(text), layout.text_length + 1) for text in texts)

    return max(map(tokens, sorted(rows, key=letters)[-LONGEST:]))


def _sizes(vlm: VisualLanguageModel) -> tuple[dict[str, int], dict[str, int]]:
    """Parameters that learn and those that do not, by part."""
    parts = ("language model", "projectors")
    trained, frozen = dict.fromkeys(parts, 0), dict.fromkeys(parts, 0)
    own = {id(one) for one in vlm.projector_parameters}
    for parameter in vlm.parameters():
        there = trained if parameter.requires_grad else frozen
        there[parts[id(parameter) in own]] += parameter.numel()
    frozen["what looks"] = sum(p.numel() for module in vlm.features.modules for p in module.parameters())
    return trained, frozen


def _from_log(config: TransferConfig) -> tuple[float | None, str]:
    """Seconds of a step, by the last lines of the run's own log."""
    path = Path(config.run.out) / "log.jsonl"
    speeds = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines()[-LINES:]:
            speeds.append(float(json.loads(line)["images_per_second"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None, ""
    speeds = [one for one in speeds if one > 0]
    return (config.run.batch_size / median(speeds), f"{path}") if speeds else (None, "")


def _millions(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {value / 1e6:.4g} M" for name, value in sizes.items() if value)
