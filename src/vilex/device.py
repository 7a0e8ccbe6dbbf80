"""Devices by name, known to be there before anything is loaded."""

import torch

from vilex.errors import InputError


def check_device(name: str, setting: str) -> torch.device:
    """A device by name: `cpu`, or an accelerator of this machine, as `cuda`, `cuda:1` or `mps`.

    Args:
        setting: what the name was given for, for the error: `--device`, `run.device`.
    Raises:
        InputError: there is no such device, or not here.
    """
    device = parse_device(name, setting)
    if device.type == "cpu":
        return device
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    count = torch.accelerator.device_count() if here and here.type == device.type else 0
    if (device.index or 0) >= count:
        known = ["cpu", *(f"{here.type}:{i}" for i in range(torch.accelerator.device_count()))] if here else ["cpu"]
        raise InputError(f"{setting}: no device '{name}' here; expected {' or '.join(known)}")
    return device


def parse_device(name: str, setting: str) -> torch.device:
    """A device that some machine may have; see `check_device`."""
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError, ValueError):
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps", "xpu") or (device.type == "cpu" and device.index):
        raise InputError(f"{setting}: '{name}' is no device; expected cpu, cuda, cuda:1 or mps")
    return device
