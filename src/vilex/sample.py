"""The reverse process over any diffusers scheduler: one short loop."""

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from torch import Tensor

from vilex.errors import InputError
from vilex.guidance import Mixture
from vilex.t2i.base import FrozenT2I

SCHEDULERS = {
    "dpm++": "DPMSolverMultistepScheduler",
    "dpm++-sde": "DPMSolverSDEScheduler",
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "unipc": "UniPCMultistepScheduler",
}


def make_scheduler(name: str, config: dict[str, Any]) -> Any:
    """A diffusers scheduler by short or class name, on the frozen model's own noise schedule.

    Raises:
        InputError: no such scheduler.
    """
    scheduler_class = getattr(diffusers, SCHEDULERS.get(name, name), None)
    if scheduler_class is None or not hasattr(scheduler_class, "from_config"):
        raise InputError(f"scheduler '{name}': unknown; use one of {', '.join(SCHEDULERS)}")
    return scheduler_class.from_config({key: value for key, value in config.items() if key != "_class_name"})


@torch.inference_mode()
def sample(
    t2i: FrozenT2I,
    scheduler: Any,
    guided: Mixture,
    plain: Mixture,
    acts: Callable[[float], bool],
    seeds: list[int],
    steps: int,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Draw B pictures, one seed each; picture i depends on its seed and conditions alone.

    Args:
        guided: conditions and weights where guidance acts; `plain`: where it does not.
        acts: whether guidance acts at a share of the sampling in [0, 1).
        on_step: called with the number of each finished step.
    Returns:
        x0 [B, c, h, w].
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    noise = [torch.randn(1, *t2i.latent_shape, generator=generator) for generator in generators]
    scheduler.set_timesteps(steps, device=t2i.device)
    x_t = torch.cat(noise).to(t2i.device) * scheduler.init_noise_sigma
    extra = {"generator": generators} if _takes_generator(scheduler) else {}
    for i, t in enumerate(scheduler.timesteps):
        mixture = guided if acts(i / len(scheduler.timesteps)) else plain
        rows = scheduler.scale_model_input(x_t, t)[mixture.owner]
        prediction = mixture.combine(t2i.predict(rows, t, mixture.condition))
        x_t = scheduler.step(prediction, t, x_t, **extra, return_dict=False)[0]
        if on_step:
            on_step(i + 1)
    return x_t


def _takes_generator(scheduler: Any) -> bool:
    return "generator" in scheduler.step.__code__.co_varnames
