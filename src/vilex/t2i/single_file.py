"""Checkpoints in one file, over a pipeline folder that has the configurations (and what the file leaves out).

    FILE.safetensors   a whole pipeline as web interfaces keep it, or a denoiser alone
    FILE.gguf          a denoiser alone, its matrices in few bits (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)

Names of weights are translated by diffusers' own `from_single_file`.
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import diffusers
import safetensors
import torch
from torch import nn

from vilex.checks import instance
from vilex.errors import InputError, printable
from vilex.extras import needs
from vilex.hub.folder import read_json
from vilex.hub.loading import quiet_loading
from vilex.t2i.parts import AUTO_ENCODER, SCHEDULER, load_parts, with_weights
from vilex.t2i.quantization import quantization_of

GGUF, SAFETENSORS = ".gguf", ".safetensors"
# How names of weights begin, in a file of a whole pipeline, that are not the denoiser's.
OF_AUTO_ENCODER = ("first_stage_model.", "vae.")
OF_TEXT_ENCODERS = ("cond_stage_model.", "conditioner.", "text_encoders.")


def check_single_file(given: Any) -> Path:
    """A file of one of these formats.

    Raises:
        InputError: it is none.
    """
    file = Path(instance(given, str | PathLike, "checkpoint", "a file"))
    if file.suffix not in (GGUF, SAFETENSORS):
        what = "pickled weights are never read; convert it" if file.suffix in (".ckpt", ".pt", ".bin") else "give one"
        raise InputError(f"checkpoint {file}: expected a file of .safetensors or .gguf; {what}")
    if not file.is_file():
        raise InputError(f"checkpoint {file}: no such file")
    return file


def holds_pipeline(file: Path) -> bool:
    """Whether a file holds more than a denoiser.

    Raises:
        InputError: it cannot be read.
    """
    return file.suffix == SAFETENSORS and any(key.startswith(OF_AUTO_ENCODER + OF_TEXT_ENCODERS) for key in _keys(file))


def load_single_file(
    folder: Path,
    classes: Mapping[str, type],
    pipeline: str,
    denoiser: str,
    file: Path,
    dtype: torch.dtype,
    quantize: str | None = None,
) -> dict[str, Any]:
    """Every part, as `load_parts` gives them; those that the file holds are its.

    Args:
        classes: of each part. pipeline: diffusers' class of it. denoiser: the name of that part.
        quantize: how matrices are kept; not of a file that holds a whole pipeline, or few bits already.
    Raises:
        InputError: the file cannot be read, is another model's, or lacks weights; the family has no such files.
    """
    whole = holds_pipeline(file)
    if quantize and (whole or file.suffix == GGUF):
        held = "a whole pipeline, which is not quantised on the way" if whole else "few bits already"
        raise InputError(f"quantize: {file} holds {held}; leave it out")
    kind: Any = getattr(diffusers, pipeline, None) if whole else classes[denoiser]
    if not hasattr(kind, "from_single_file"):
        raise InputError(f"checkpoint {file}: diffusers reads no {getattr(kind, '__name__', pipeline)} from one file")
    if not whole:
        others = {name: one for name, one in classes.items() if name != denoiser}
        own = _read(file, kind, folder, dtype, subfolder=denoiser, **_few_bits(file, kind, dtype, quantize))
        parts = {**load_parts(folder, others, dtype, quantize), denoiser: own}
        return {name: _complete(parts[name], file, name) for name in classes}
    keys = _keys(file)
    absent = [AUTO_ENCODER] * (AUTO_ENCODER in classes and not any(key.startswith(OF_AUTO_ENCODER) for key in keys))
    if not any(key.startswith(OF_TEXT_ENCODERS) for key in keys):
        absent += [name for name in with_weights(classes) if name.startswith("text_encoder")]
    words = [name for name, one in classes.items() if not issubclass(one, nn.Module)]
    given = load_parts(folder, {name: classes[name] for name in (*absent, *words)}, dtype)
    index = read_json(folder / "model_index.json")
    left_out = [name for name, one in index.items() if isinstance(one, list) and name not in (*classes, SCHEDULER)]
    loaded = _read(file, kind, folder, dtype, **given, **dict.fromkeys(left_out)).components
    return {name: _complete(loaded[name], file, name) for name in classes}


def _few_bits(file: Path, kind: type, dtype: torch.dtype, quantize: str | None) -> dict[str, Any]:
    if file.suffix == GGUF:
        with needs("gguf"):
            import gguf  # noqa: F401
        return {"quantization_config": diffusers.GGUFQuantizationConfig(compute_dtype=dtype)}
    return {"quantization_config": quantization_of(kind, quantize, dtype)} if quantize else {}


def _read(file: Path, kind: Any, folder: Path, dtype: torch.dtype, **how: Any) -> Any:
    try:
        with quiet_loading():
            return kind.from_single_file(str(file), config=str(folder), local_files_only=True, dtype=dtype, **how)
    except Exception as error:  # of whatever kind: it is what the file holds
        reason = printable(error)[:200] or type(error).__name__
        raise InputError(f"checkpoint {file}: cannot be read as {kind.__name__} of {folder} ({reason})") from None


def _complete(part: Any, file: Path, name: str) -> Any:
    """A part, unless weights are missing: diffusers leaves them on the meta device."""
    tensors = part.named_parameters() if isinstance(part, nn.Module) else ()
    if missing := [key for key, value in tensors if value.is_meta]:
        raise InputError(f"checkpoint {file}: has no weights for {name}'s {missing[0]}, and {len(missing) - 1} others")
    return part


def _keys(file: Path) -> list[str]:
    try:
        with safetensors.safe_open(file, "pt") as opened:
            return list(opened.keys())
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"checkpoint {file}: cannot be read ({printable(error)[:100]}); fetch it again") from None
