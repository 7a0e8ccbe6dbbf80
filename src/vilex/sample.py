"""The reverse process over any diffusers scheduler: one short loop."""

import inspect
from collections.abc import Callable
from typing import Any

import diffusers
import torch
from torch import Tensor

from vilex.errors import InputError
from vilex.guidance import Mixture
from vilex.img2img import Start
from vilex.t2i.base import FrozenT2I
from vilex.t2i.schedule import is_flow

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
FLOW = {  # what these names mean for a flow model
    "euler": "FlowMatchEulerDiscreteScheduler",
    "heun": "FlowMatchHeunDiscreteScheduler",
}
UNSAID = {"clip_sample": False, "skip_prk_steps": True}  # what a configuration of another class says nothing of


def make_scheduler(name: str, config: dict[str, Any]) -> Any:
    """A diffusers scheduler by short or class name, on the frozen model's own noise schedule.

    Raises:
        InputError: no such scheduler.
    """
    flow = is_flow(config)
    names = {**SCHEDULERS, **(FLOW if flow else {})}
    scheduler_class = getattr(diffusers, names.get(name, name), None)
    if scheduler_class is None or not hasattr(scheduler_class, "from_config"):
        raise InputError(f"scheduler '{name}': unknown; use one of {', '.join(SCHEDULERS)}")
    known = inspect.signature(scheduler_class.__init__).parameters
    if config.get("_class_name") != scheduler_class.__name__:
        config = UNSAID | config
    if flow and not scheduler_class.__name__.startswith("FlowMatch"):
        if "use_flow_sigmas" not in known:
            raise InputError(f"scheduler '{name}': cannot follow a flow model; use dpm++, unipc, euler or heun")
        shift = config.get("shift", 1.0)
        config = config | {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": shift}
    return scheduler_class.from_config({key: value for key, value in config.items() if key in known})


@torch.inference_mode()
def sample(
    t2i: FrozenT2I,
    scheduler: Any,
    guided: Mixture,
    plain: Mixture,
    acts: Callable[[float], bool],
    seeds: list[int],
    steps: int,
    start: Start | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Draw B pictures, one seed each; picture i depends on its seed and conditions alone.

    Args:
        guided: conditions and weights where guidance acts; `plain`: where it does not.
        acts: whether guidance acts at a share of the sampling in [0, 1).
        start: a picture to begin from; noise alone if None.
        on_step: called with the number of each finished step.
    Returns:
        x0 [B, c, h, w].
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    noise = torch.cat([torch.randn(1, *t2i.latent_shape, generator=generator) for generator in generators])
    noise = noise.to(t2i.device)
    t2i.prepare(scheduler, steps)
    timesteps, first = scheduler.timesteps, 0
    x_t = noise * getattr(scheduler, "init_noise_sigma", 1.0)  # flow models have none
    if start:
        first = start.first(scheduler, steps)
        x_t = start.begin(x_t, scheduler, noise, timesteps[first])
    scaled = getattr(scheduler, "scale_model_input", lambda x, t: x)
    extra = {"generator": generators} if _takes_generator(scheduler) else {}
    learned = _takes_variance(scheduler)
    for i, t in enumerate(timesteps[first:], first):
        mixture = guided if acts(i / len(timesteps)) else plain
        rows = scaled(x_t, t)[mixture.owner]
        prediction = mixture.combine(t2i.predict(rows, t, mixture.condition), channels=x_t.shape[1])
        prediction = prediction if learned else prediction[:, : x_t.shape[1]]
        x_t = scheduler.step(prediction, t, x_t, **extra, return_dict=False)[0]
        if start:
            x_t = start.restore(x_t, scheduler, noise, timesteps[i + 1 :])
        if on_step:
            on_step(i + 1)
    return x_t


def _takes_generator(scheduler: Any) -> bool:
    return "generator" in scheduler.step.__code__.co_varnames


def _takes_variance(scheduler: Any) -> bool:
    """Whether a sampler wants the variance that some models learn beside their prediction."""
    known = "variance_type" in inspect.signature(type(scheduler).__init__).parameters
    return known and scheduler.config.variance_type in ("learned", "learned_range")
