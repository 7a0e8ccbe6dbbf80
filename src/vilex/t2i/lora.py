"""LoRAs of the base model (Hu et al. 2021, arXiv 2106.09685), in whatever format diffusers' pipelines read.

Each is merged into the frozen weights, so that nothing else has to know of it; into quantised matrices it cannot be,
and stays beside them.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers

from vilex.checks import WEIGHTS, number
from vilex.errors import InputError, printable
from vilex.extras import needs
from vilex.hub.loading import quiet_loading
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.pipeline import as_pipeline

UNUSED = "unexpected keys"  # of diffusers' warning


def split_lora(given: str) -> tuple[str, float]:
    """FILE or FILE:WEIGHT to both; the weight is 1 by default.

    Raises:
        InputError: the weight is no number from -1000 to 1000.
    """
    file, marked, weight = given.rpartition(":")
    try:
        return (file, number(float(weight), f"lora {given}", *WEIGHTS)) if marked else (given, 1.0)
    except ValueError:
        if Path(given).exists():  # a name with a colon
            return given, 1.0
        raise InputError(f"lora {given}: expected FILE:WEIGHT, as style.safetensors:0.8") from None


def add_loras(t2i: DiffusersT2I, loras: Sequence[tuple[str | Path, float]]) -> None:
    """Add LoRAs to a frozen model, each with its weight.

    Args:
        loras: `.safetensors` files and weights; 1 is a LoRA as it was trained.
    Raises:
        InputError: a file is not there, is no LoRA, or is another model's; the family takes none.
    """
    if not loras:
        return
    kind: Any = getattr(diffusers, t2i.index["_class_name"], None)
    parts = t2i.components()
    if not hasattr(kind, "load_lora_weights"):
        raise InputError(f"lora: {t2i.pipelines[0]} takes none; merge it into the base model's weights")
    left_out = {name: None for name, named in t2i.index.items() if isinstance(named, list) and name not in parts}
    pipeline = as_pipeline(parts, kind, left_out)
    with needs("lora"):
        import peft  # noqa: F401
    names = [f"vilex{i}" for i in range(len(loras))]
    for name, (path, _) in zip(names, loras, strict=True):
        _load(pipeline, Path(path), name)
    weights = [number(weight, f"lora {path}", *WEIGHTS) for path, weight in loras]
    pipeline.set_adapters(names, weights)
    if not any(getattr(module, "is_quantized", False) for module in t2i.modules):
        pipeline.fuse_lora(components=pipeline._lora_loadable_modules)
        pipeline.unload_lora_weights()
    for module in t2i.modules:
        module.requires_grad_(False).eval()


def _load(pipeline: Any, path: Path, name: str) -> None:
    if not path.is_file():
        raise InputError(f"lora {path}: no such file; give a .safetensors file")
    if path.suffix != ".safetensors":
        raise InputError(f"lora {path}: pickled weights are never read; convert the file to safetensors")
    with _complaints() as complaints:
        try:
            pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name=name, local_files_only=True)
        except Exception as error:  # of whatever kind: it is what the file holds
            reason = printable(error)[:200] or type(error).__name__
            raise InputError(f"lora {path}: cannot be read for this base model ({reason})") from None
    found = {adapter for adapters in pipeline.get_list_adapters().values() for adapter in adapters}
    if name not in found:
        raise InputError(f"lora {path}: holds nothing for this base model; it is another model's, or no LoRA")
    if unused := [line for line in complaints if UNUSED in line]:
        raise InputError(f"lora {path}: does not fit this base model ({unused[0][:200]})")


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What diffusers says while it loads: of keys without a place it only warns."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(printable(record.getMessage()))

    listener, logger = Listener(logging.WARNING), logging.getLogger("diffusers")
    before = logger.level, logger.propagate, logger.handlers
    logger.handlers, logger.propagate = [listener], False
    try:
        with quiet_loading(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of peft, that an adapter is not the first
            logger.setLevel(logging.WARNING)
            yield lines
    finally:
        logger.level, logger.propagate, logger.handlers = before
