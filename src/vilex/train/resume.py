"""Going on with other settings than a run began with: which are free, which must be said, which never can change."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from vilex.data.config import SourceConfig
from vilex.errors import InputError
from vilex.train.config import TrainConfig
from vilex.train.setting_rules import SettingRules

# What may change without a word: it is about this machine, or about what is written when.
FREE = {"run.out", "run.device", "run.threads", "run.log_every", "run.wandb", "run.sample_every", "run.sample_images"}
FREE |= {"run.save_every", "run.keep", "run.micro_batch", "run.parallel", "run.gradient_checkpointing", "run.compile"}
FREE |= {"run.tf32", "data.workers", "data.max_bad_share", "data.validation", "data.allow_pipe"}
# What the checkpoint's tensors depend on.
FIXED = {"model.method", "model.num_tokens", "model.blocks", "model.heads", "model.mlp_ratio", "model.pooler_width"}
FIXED |= {"optim.name"}
READERS = "data.workers"  # accepted: streams are read by another number of readers
NEW_DATA = "samples are counted on; the rest of this epoch may have some again, and leave some out"
CHANGES = {  # what it means for a run to go on with another value
    "run.steps": "the rate follows the longer schedule from here on",
    "run.seed": "order and noise are drawn anew from here on",
    "run.batch_size": NEW_DATA,
    "data.path": f"the same files go on as before; of other ones {NEW_DATA}",
    "data.sources": f"the same files go on as before; of other ones {NEW_DATA}",
    READERS: "streams leave what is left of this epoch and begin the next",
}


RULES = SettingRules(
    FREE,
    FIXED,
    CHANGES,
    rows={"data.sources": json.loads(json.dumps(dataclasses.asdict(SourceConfig())))},
    growing="run.steps",
    accepted={READERS},
)


def other_counts(before: Sequence[int | None], now: Sequence[int | None], config: TrainConfig) -> list[str]:
    """A line for each source that has more or fewer images than when the run was saved.

    Args:
        before, now: of each source; None where only reading would tell.
    """
    counted = zip(config.data.all_sources, before, now, strict=False)
    return [
        f"{one.path}: {is_now} images, not {was} as before: {NEW_DATA}" for one, was, is_now in counted if was != is_now
    ]


def check_state(state: dict[str, Any], config: TrainConfig, base_sha256: dict[str, str]) -> None:
    """Refuse a checkpoint that was trained on other frozen weights, or longer than the run is to be.

    Args:
        state: of the checkpoint. base_sha256: of each weight file of the frozen model as it is now.
    Raises:
        InputError: that is so.
    """
    before: dict[str, str] = state["base_sha256"]
    for name, digest in before.items():
        if digest != base_sha256.get(name):
            raise InputError(
                f"{config.model.base}: {name} is not what this run was trained on so far (its SHA-256 "
                "differs); use the same base model, or give another run.out"
            )
    if state["step"] > config.run.steps:
        raise InputError(
            f"{config.run.out}: is at step {state['step']} already, past run.steps = {config.run.steps}; "
            "give more steps, or another run.out"
        )
