"""How a sampler steps, by choice: `dpm++:use_karras_sigmas=true,solver_order=3`, or a diffusers scheduler from Python.

What a frozen model was trained on, its noise levels and what it predicts, is no choice and is never an option.
"""

import difflib
import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias, get_args

import numpy as np
import torch
from diffusers import SchedulerMixin

from vilex.checks import shown, text
from vilex.errors import InputError
from vilex.t2i.schedule import SAMPLING, is_flow, level_settings, num_levels

Scheduler: TypeAlias = str | SchedulerMixin
OPTIONS = SAMPLING - {"shift_terminal", "tau_func", "variance_type"}
EXPECTED = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
SHIFT = "shift"  # of a flow model's levels, which a sampler may choose


def name_and_options(given: Scheduler, config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A sampler's name and its options.

    Args:
        given: NAME, NAME:KEY=VALUE,KEY=VALUE with values as in JSON, or a scheduler, whose way of stepping is taken.
        config: the frozen model's scheduler configuration.
    Raises:
        InputError: an option is not written so, or a scheduler has other noise levels than the frozen model.
    """
    if isinstance(given, SchedulerMixin):
        return type(given).__name__, _of_scheduler(given, config)
    name, _, written = text(given, "scheduler").partition(":")
    called = f"scheduler '{given[:60]}'"
    options: dict[str, Any] = {}
    for pair in written.split(",") if written else []:
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not key or not equals or not value:
            raise InputError(f"{called}: expected NAME:KEY=VALUE, as dpm++:use_karras_sigmas=true")
        if key in options:
            raise InputError(f"{called}: {key} is given twice")
        try:
            options[key] = json.loads(value)
        except (ValueError, RecursionError):
            options[key] = value
    return name, options


def _of_scheduler(given: SchedulerMixin, config: Mapping[str, Any]) -> dict[str, Any]:
    known = inspect.signature(type(given)).parameters
    own: Mapping[str, Any] = given.config
    if is_flow(config):
        wanted = {"num_train_timesteps": num_levels(config)}
    else:
        wanted = {"prediction_type": config.get("prediction_type", "epsilon"), **level_settings(config)}
    for key, value in wanted.items():
        its: Any = own.get(key)
        if key in known and not np.array_equal(its, value):
            raise InputError(
                f"scheduler {type(given).__name__}: has {key} {shown(its)}, the base model "
                f"{shown(value)}; make it with from_config of the base model's own"
            )
    options = {key: value for key, value in own.items() if key in known and key in OPTIONS}
    shift = own.get("flow_shift") if own.get("use_flow_sigmas") else own.get(SHIFT)
    fixed = is_flow(config) and not config.get("use_dynamic_shifting")
    return options if shift is None or not fixed else {**options, SHIFT: shift}


def check_options(name: str, kind: type, options: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise InputError for an option that a sampler has not, or whose value is of another kind than its default's.

    Args:
        kind: the sampler's class. config: the frozen model's scheduler configuration.
    """
    parameters = inspect.signature(kind).parameters
    possible = sorted(key for key in parameters if key in OPTIONS)
    if is_flow(config) and not config.get("use_dynamic_shifting"):
        possible += [SHIFT] * (SHIFT in parameters or "flow_shift" in parameters)
    for key, value in options.items():
        if key not in possible:
            near = difflib.get_close_matches(key, possible, 1) or [f"one of {', '.join(possible)}"]
            raise InputError(f"scheduler '{name}': has no option '{key}'; use {near[0]}")
        expected = _kind(parameters[key]) if key in parameters else float
        fits = {
            bool: isinstance(value, bool),
            int: isinstance(value, int) and not isinstance(value, bool),
            float: isinstance(value, int | float) and not isinstance(value, bool) and value == value,  # no NaN
            str: isinstance(value, str),
        }
        if expected and not fits.get(expected, True) and (value is not None or parameters[key].default is not None):
            raise InputError(f"scheduler '{name}': {key} is {shown(value)}; expected {EXPECTED[expected]}")


def _kind(parameter: inspect.Parameter) -> type | None:
    """Of what kind an option's values are: its default's, or as annotated where that is None."""
    if parameter.default is not None:
        return type(parameter.default)
    return next((one for one in get_args(parameter.annotation) if one in (bool, int, float, str)), None)


@contextmanager
def as_scheduled(name: str) -> Iterator[None]:
    """What a sampler says against its options is the user's to mend.

    Raises:
        InputError: in place of what it raises.
    """
    try:
        yield
    except InputError:
        raise
    except torch.OutOfMemoryError:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError, ImportError,
            AssertionError) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"scheduler '{name}': {reason}; give it other options") from None
