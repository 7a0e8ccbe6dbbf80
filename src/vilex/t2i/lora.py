"""LoRAs of the base model (Hu et al. 2021, arXiv 2106.09685), in whatever format diffusers' pipelines read.

Each is merged into the frozen weights, so that nothing else has to know of it; into quantised matrices it cannot be,
and stays beside them.
"""

import logging
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import diffusers
from safetensors.torch import load_file
from torch import Tensor

from vilex.checks import WEIGHTS, number, shown
from vilex.errors import InputError, printable
from vilex.extras import needs
from vilex.hub.loading import quiet_loading
from vilex.t2i.folder import DiffusersT2I
from vilex.t2i.pipeline import as_pipeline

UNUSED = ("unexpected keys", "UNEXPECTED")  # what diffusers and transformers say of weights without a place
DORA = "DoRA"  # what diffusers says where it leaves out a DoRA's scales
KOHYA = {"lora_te": "text_encoder", "lora_te1": "text_encoder", "lora_te2": "text_encoder_2"}


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


def check_loras(given: Any) -> list[tuple[Path, float]]:
    """LoRAs as they are given from Python, files or (file, weight), as pairs.

    Raises:
        InputError: they are something else, a file is not there or pickled, a weight is no number.
    """
    if isinstance(given, str | PathLike) or not isinstance(given, Iterable):
        raise InputError(f"loras: expected a list of files or of (file, weight), got {shown(given)}")
    pairs = []
    for one in given:
        path, weight = one if isinstance(one, tuple | list) and len(one) == 2 else (one, 1.0)
        if not isinstance(path, str | PathLike):
            raise InputError(f"loras: expected a file or (file, weight), got {shown(one)}")
        pairs.append((Path(path), number(weight, f"lora {path}", *WEIGHTS)))
    for path, _ in pairs:
        if not path.is_file():
            raise InputError(f"lora {path}: no such file; give a .safetensors file")
        if path.suffix != ".safetensors":
            raise InputError(f"lora {path}: pickled weights are never read; convert the file to safetensors")
    return pairs


def add_loras(t2i: DiffusersT2I, loras: Sequence[str | Path | tuple[str | Path, float]]) -> None:
    """Add LoRAs to a frozen model, each with its weight.

    Args:
        loras: `.safetensors` files and weights; 1 is a LoRA as it was trained.
    Raises:
        InputError: see `check_loras`; a file is no LoRA, or another model's; the family takes none.
    """
    pairs = check_loras(loras)
    if not pairs:
        return
    kind: Any = getattr(diffusers, t2i.index["_class_name"], None)
    parts = t2i.components()
    if not hasattr(kind, "load_lora_weights"):
        raise InputError(f"lora: {t2i.pipelines[0]} takes none; merge it into the base model's weights")
    left_out = {name: None for name, named in t2i.index.items() if isinstance(named, list) and name not in parts}
    pipeline = as_pipeline(parts, kind, left_out)
    with needs("lora"):
        import peft  # noqa: F401
    names = [f"vilex{i}" for i in range(len(pairs))]
    for name, (path, _) in zip(names, pairs, strict=True):
        _load(pipeline, path, name)
    pipeline.set_adapters(names, [weight for _, weight in pairs])
    if not any(getattr(module, "is_quantized", False) for module in t2i.modules):
        pipeline.fuse_lora(components=pipeline._lora_loadable_modules)
        pipeline.unload_lora_weights()
    for module in t2i.modules:
        module.requires_grad_(False).eval()


def _load(pipeline: Any, path: Path, name: str) -> None:
    with _complaints() as complaints:
        try:
            tensors = load_file(path)
            if foreign := _without_place(tensors, pipeline._lora_loadable_modules):
                raise InputError(f"lora {path}: holds weights for {foreign[0]}, which this base model has no place for")
            if not all(value.float().isfinite().all() for value in tensors.values()):
                raise InputError(
                    f"lora {path}: holds weights that are NaN or infinite; train it again, or take another"
                )
            flat = tuple(KOHYA) + ("lora_unet",) * ("unet" in pipeline.components)
            given = _scaled(tensors) if any(key.startswith(flat) for key in tensors) else path.parent
            pipeline.load_lora_weights(given, weight_name=path.name, adapter_name=name, local_files_only=True)
        except InputError:
            raise
        except Exception as error:  # of whatever kind: it is what the file holds
            reason = printable(error)[:200] or type(error).__name__
            raise InputError(f"lora {path}: cannot be read for this base model ({reason})") from None
    if any(DORA in line for line in complaints):
        raise InputError(f"lora {path}: is a DoRA, whose scales diffusers leaves out; merge it into a checkpoint")
    found = {adapter for adapters in pipeline.get_list_adapters().values() for adapter in adapters}
    if name not in found:
        raise InputError(f"lora {path}: holds nothing for this base model; it is another model's, or no LoRA")
    if unused := [line for line in complaints if any(said in line for said in UNUSED)]:
        reason = " ".join(re.findall(r"(\S+) *\| UNEXPECTED", unused[0])) or unused[0]
        raise InputError(
            f"lora {path}: does not fit this base model, which has no place for all of it ({reason[:200]})"
        )


def _without_place(keys: Iterable[str], parts: Collection[str]) -> list[str]:
    """Text encoders that a file has weights for and the pipeline adds none to: diffusers passes over them."""
    heads = {key.split(".")[0] for key in keys}
    named = {KOHYA.get("_".join(head.split("_")[:2]), head) for head in heads}
    return sorted(name for name in named if name.startswith("text_encoder") and name not in parts)


def _scaled(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """kohya's weights with their scales in them: where those differ by layer, diffusers takes one for all.

    Args:
        tensors: by names as `lora_te_text_model_encoder_layers_0_mlp_fc1.alpha`.
    """
    for name in [key.removesuffix(".alpha") for key in tensors if key.endswith(".alpha")]:
        down, up = (f"{name}.lora_{way}.weight" for way in ("down", "up"))
        if down in tensors and up in tensors:
            tensors[up] = tensors[up] * (tensors.pop(f"{name}.alpha").item() / len(tensors[down]))
    return tensors


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What diffusers and transformers say while they load: of keys without a place they only warn."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(printable(record.getMessage()))

    with quiet_loading(), warnings.catch_warnings(), ExitStack() as after:
        warnings.simplefilter("ignore")  # of peft, that an adapter is not the first
        for name in ("diffusers", "transformers"):
            after.enter_context(_heard_by(Listener(logging.WARNING), logging.getLogger(name)))
        yield lines


@contextmanager
def _heard_by(listener: logging.Handler, logger: logging.Logger) -> Iterator[None]:
    """A library's warnings go to `listener` alone."""
    before = logger.level, logger.propagate, logger.handlers
    logger.handlers, logger.propagate = [listener], False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.level, logger.propagate, logger.handlers = before
