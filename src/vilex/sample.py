"""The reverse process over any diffusers scheduler: one short loop.

x_t, the predictions' weighted sum and every step are float32 in whatever precision the frozen model computes: a
half-precision sum of guidance loses what a step changes.
"""

import inspect
from collections.abc import Callable
from typing import Any

import diffusers
import torch
from diffusers import SchedulerMixin
from torch import Tensor

from vilex.checks import text
from vilex.errors import InputError
from vilex.guidance import Mixture
from vilex.img2img import Start
from vilex.scheduler_options import Scheduler, as_scheduled, check_options, name_and_options
from vilex.t2i.base import FrozenT2I
from vilex.t2i.schedule import FLOW_LEVELS, LEVELS, SAMPLING, is_flow, is_neutral, level_settings, num_levels

SCHEDULERS = {
    "dpm++": "DPMSolverMultistepScheduler",
    "dpm++-sde": "DPMSolverMultistepScheduler",
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
VARIANTS = {"dpm++-sde": {"algorithm_type": "sde-dpmsolver++"}}
OTHERS = {  # by class name: what else follows a frozen model's own noise levels
    "DDIMParallelScheduler", "DDPMParallelScheduler", "DEISMultistepScheduler", "DPMSolverSinglestepScheduler",
    "FlowMatchLCMScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "LCMScheduler",
    "TCDScheduler",
}  # fmt: skip
CLASSES = {*SCHEDULERS.values(), *FLOW.values(), *OTHERS}
OF_ANOTHER_CLASS = {"clip_sample": False, "skip_prk_steps": True}  # where a configuration says nothing of them
TRANSLATED = {  # by `make_scheduler` and `vilex.t2i.schedule.set_steps`, where a sampler's class does not know them
    "base_image_seq_len", "base_shift", "flow_shift", "max_image_seq_len", "max_shift", "num_train_timesteps", "shift",
    "use_dynamic_shifting", "use_flow_sigmas",
}  # fmt: skip


def make_scheduler(given: Scheduler, config: dict[str, Any]) -> Any:
    """A diffusers scheduler on the frozen model's own noise levels.

    Every key of `config` is honoured, is another sampler's way of stepping, or is refused.

    Args:
        given: see `vilex.scheduler_options.name_and_options`. config: the frozen model's scheduler configuration.
    Raises:
        InputError: no such scheduler or option; it cannot follow the model, or not a key of `config`, which is named.
    """
    name, options = name_and_options(given, config)
    flow, kind = is_flow(config), scheduler_class(name, config)
    check_options(name, kind, options, config)
    known = inspect.signature(kind.__init__).parameters
    own = config.get("_class_name") == kind.__name__
    settings: dict[str, Any] = {} if own else dict(OF_ANOTHER_CLASS)
    settings |= {"prediction_type": "epsilon"} | config | ({} if flow else level_settings(config))
    settings |= VARIANTS.get(name, {})
    if flow and not kind.__name__.startswith("FlowMatch"):
        shift = config.get("shift", config.get("flow_shift", 1.0))
        settings |= {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": shift}
    elif flow:
        settings |= {"shift": config.get("shift", config.get("flow_shift", 1.0))}  # an eps-model's name for it
    for key, value in settings.items():
        stepping = key in SAMPLING and key != "shift_terminal"
        stepping |= not flow and key in FLOW_LEVELS and key != "use_flow_sigmas"  # a flow's shift without a flow
        stepping |= flow and key in LEVELS  # betas beside a flow
        if key.startswith("_") or key in known or stepping or key in OF_ANOTHER_CLASS or is_neutral(key, value):
            continue
        if key != "prediction_type" and not (flow and key in TRANSLATED):
            raise InputError(
                f"scheduler '{name}': cannot follow the base model's {key} = {value!r} (scheduler_config.json); "
                f"use {'euler' if flow else 'dpm++, ddim or euler'}"
            )
    if flow and "shift" in options and "flow_shift" in known:
        options = {**options, "flow_shift": options.pop("shift")}
    with as_scheduled(name):
        return kind.from_config({key: value for key, value in {**settings, **options}.items() if key in known})


def scheduler_class(name: str, config: dict[str, Any]) -> type[SchedulerMixin]:
    """The class of a scheduler by short or class name, for a frozen model with a scheduler configuration.

    Raises:
        InputError: there is none, or it is for models of the other kind (flow, or eps and v).
    """
    flow = is_flow(config)
    text(name, "scheduler")
    full = {**SCHEDULERS, **(FLOW if flow else {})}.get(name, name)
    if full not in CLASSES:
        raise InputError(f"scheduler '{name}': unknown; use one of {', '.join(SCHEDULERS)}")
    kind: type[SchedulerMixin] = getattr(diffusers, full)
    follows = full.startswith("FlowMatch") or "use_flow_sigmas" in inspect.signature(kind.__init__).parameters
    if flow and not follows:
        raise InputError(f"scheduler '{name}': cannot follow a flow model; use dpm++, unipc, euler or heun")
    if not flow and full.startswith("FlowMatch"):
        raise InputError(f"scheduler '{name}': follows flow models alone; use dpm++, ddim or euler")
    return kind


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
        x0 [B, c, h, w] in float32.
    Raises:
        InputError: the scheduler begins so few steps at an image without noise, or numbers went past all bounds.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    noise = torch.cat([torch.randn(1, *t2i.latent_shape, generator=generator) for generator in generators])
    noise = noise.to(t2i.device)
    with as_scheduled(type(scheduler).__name__):
        t2i.prepare(scheduler, steps)
    timesteps, first = scheduler.timesteps, 0
    _check_first(scheduler, num_levels(t2i.scheduler_config))
    x_t = noise * getattr(scheduler, "init_noise_sigma", 1.0)  # flow models have none
    if start:
        with as_scheduled(type(scheduler).__name__):
            first = start.first(scheduler, steps)
            x_t = start.begin(x_t, scheduler, noise, timesteps[first])
    scaled = getattr(scheduler, "scale_model_input", lambda x, t: x)
    extra = {"generator": generators} if _takes_generator(scheduler) else {}
    learned = _takes_variance(scheduler)
    for i, t in enumerate(timesteps[first:], first):
        mixture = guided if acts(i / len(timesteps)) else plain
        rows = scaled(x_t, t)[mixture.owner]
        outputs = t2i.predict(rows, t, mixture.condition).float()
        prediction = mixture.combine(outputs, channels=x_t.shape[1])
        prediction = prediction if learned else prediction[:, : x_t.shape[1]]
        with as_scheduled(type(scheduler).__name__):
            x_t = scheduler.step(prediction, t, x_t, **extra, return_dict=False)[0]
        if start:
            x_t = start.restore(x_t, scheduler, noise, timesteps[i + 1 :])
        if on_step:
            on_step(i + 1)
    return x_t


def _check_first(scheduler: Any, levels: int) -> None:
    """Some schedulers spread a single step so that it falls on the picture's end, not on the noise it begins with."""
    first = float(scheduler.timesteps[0])
    if len(scheduler.timesteps) == 1 and first < levels / 2:
        raise InputError(
            f"{type(scheduler).__name__}: 1 step would begin at noise level {first:g} of {levels}; "
            "use 2 steps or more, or dpm++"
        )


def _takes_generator(scheduler: Any) -> bool:
    return "generator" in inspect.signature(scheduler.step).parameters


def _takes_variance(scheduler: Any) -> bool:
    """Whether a sampler wants the variance that some models learn beside their prediction."""
    known = "variance_type" in inspect.signature(type(scheduler).__init__).parameters
    return known and scheduler.config.variance_type in ("learned", "learned_range")
