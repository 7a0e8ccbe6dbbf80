"""Going on with other settings than a transfer began with: which are free, which must be said, which never change."""

import json
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from vilex.errors import InputError
from vilex.train.setting_rules import SettingRules
from vilex.understand.config import AskedFile

# What may change without a word: it is about this machine, or about what is written when.
FREE = {"out", "device", "threads", "log_every", "wandb", "look_every", "look_examples", "save_every", "keep"}
FREE = {f"run.{name}" for name in FREE | {"micro_batch", "parallel", "gradient_checkpointing", "tf32"}}
FREE |= {"data.workers", "data.max_bad_share", "data.validation", "decode.beams", "decode.max_new_tokens"}
FREE |= {"decode.batch_size", "features.cache"}
# What the checkpoint's tensors, or what is seen, depend on.
FIXED = {"model.base", "model.scratch", "model.encoder", "model.train", "model.train_projector", "model.lora_rank"}
FIXED |= {"features.kind", "features.tokens_per_view", "features.grid", "features.vae", "optim.decay"}
NEW_DATA = "examples are counted on; the rest of this epoch may have some again, and leave some out"
DATA = ("data.train", "data.mixture", "data.root", "data.pack")  # what other examples, or other rows of them, come from
CHANGES = {  # what it means for a run to go on with another value
    "run.steps": "the rate follows the other schedule from here on",
    "run.epochs": "the rate follows the other schedule from here on",
    "run.batch_size": NEW_DATA,
    "run.seed": "order, suffixes and dropout are drawn anew from here on",
    **dict.fromkeys(DATA, NEW_DATA),
}


RULES = SettingRules(FREE, FIXED, CHANGES, rows={"data.mixture": json.loads(json.dumps(asdict(AskedFile())))})


def check_state(state: dict[str, Any], about: dict[str, Any], steps: int, accept: Collection[str], where: str) -> None:
    """Refuse a checkpoint of other eyes or other examples, or of a longer run.

    Args:
        about: what the run that goes on is about, as the checkpoint keeps it. steps: that it is to have.
    Raises:
        InputError: that is so, and other data was not accepted.
    """
    before = state["about"]
    if before["features"] != about["features"]:
        raise InputError(f"{where}: was trained with other eyes; give another run.out, or the same encoder to go on")
    if before["examples"] != about["examples"] and not set(DATA) & set(accept):
        raise InputError(
            f"{where}: was trained on {before['examples']} examples, not {about['examples']}; give another run.out, or "
            f"--accept {DATA[0]} to go on with these"
        )
    if state["step"] > steps:
        raise InputError(
            f"{where}: is at step {state['step']} already, past the run's {steps}; give more steps, or another run.out"
        )
