"""The line a run begins with: images and captions found, the batch, and what it goes on from."""

from collections.abc import Sequence
from pathlib import Path

from vilex.data.counting import count_found
from vilex.data.sources import Source
from vilex.train.config import TrainConfig


def opening(config: TrainConfig, sources: Sequence[Source], world: int, step: int, resumed: Path | None) -> str:
    """One line.

    Args:
        world: processes. step, resumed: where the run goes on, and from which checkpoint; None if it is new.
    """
    run, part = config.run, config.run.batch_size // world
    named = zip(config.data.all_sources, sources, strict=True)
    found = "; ".join(f"{one.path}: {count_found(source)}" for one, source in named)
    micro = f", {run.micro_batch} at once" if run.micro_batch and run.micro_batch < part else ""
    batch = f"batch {run.batch_size} = {world} process{'es' * (world > 1)} x {part}{micro}"
    begins = f"goes on from step {step} of {run.steps} ({resumed})" if resumed else f"new, {run.steps} steps"
    if config.optim.tower_frozen_steps > step:
        begins += f", the tower waits until step {config.optim.tower_frozen_steps}"
    return f"{found} | {batch} | {run.out}: {begins}"
