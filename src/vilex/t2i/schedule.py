"""Noise levels of flow models, as their scheduler configurations shift them."""

import inspect
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def is_flow(config: Mapping[str, Any]) -> bool:
    """Whether a scheduler configuration is a flow model's: x_t = (1 - s) x0 + s noise, predicting noise - x0."""
    return str(config.get("_class_name")).startswith("FlowMatch") or config.get("prediction_type") == "flow_prediction"


def sigma_offset(config: Mapping[str, Any], positions: int) -> float:
    """mu, by which larger pictures get more noise: linear in the number of image positions."""
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return least + (positions - low) * (most - least) / (high - low)


def shift_level(level: Tensor, config: Mapping[str, Any], positions: int) -> Tensor:
    """s' = c s / (1 + (c - 1) s), with c the configuration's shift, or e^mu where it depends on resolution."""
    dynamic = config.get("use_dynamic_shifting")
    shift = math.exp(sigma_offset(config, positions)) if dynamic else config.get("shift", config.get("flow_shift", 1.0))
    return shift * level / (1 + (shift - 1) * level)


def set_steps(scheduler: Any, positions: int, **how: Any) -> None:
    """`set_timesteps` with the shift that a picture of so many positions gets, where the model asks for one."""
    if not scheduler.config.get("use_dynamic_shifting"):
        return scheduler.set_timesteps(**how)
    mu = sigma_offset(scheduler.config, positions)
    if "mu" in inspect.signature(scheduler.set_timesteps).parameters:
        return scheduler.set_timesteps(mu=mu, **how)
    scheduler.register_to_config(shift=math.exp(mu))  # a sampler with one fixed shift
    return scheduler.set_timesteps(**how)
