"""The parts of a pipeline folder: checked, loaded from safetensors, or made as shapes without weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn
from transformers import T5GemmaConfig

from vilex.errors import InputError
from vilex.extras import needs
from vilex.hub.folder import as_configured, check_safetensors, check_whole, read_json, refuse_kernels
from vilex.t2i.base import FrozenT2I
from vilex.t2i.quantization import quantization_of, stored_bytes

SCHEDULER = "scheduler"
AUTO_ENCODER = "vae"
Kinds = Mapping[str, tuple[str | None, ...]]


def check_parts(folder: Path, parts: Kinds, pipeline: str) -> dict[str, type]:
    """Each part's class, unless a part is another family's or its configuration is not there.

    Args:
        parts: the classes each may have; see `DiffusersT2I`. pipeline: the family's, to name it.
    Raises:
        InputError: that is so.
    """
    index, found = read_json(folder / "model_index.json"), {}
    for name, classes in parts.items():
        named = index.get(name)
        library, kind = named if isinstance(named, list) and len(named) == 2 else (None, None)
        if kind is None and None in classes:
            continue
        if kind is None:
            raise InputError(f"{folder}: no {pipeline}: model_index.json has no '{name}'")
        if kind not in classes:
            wanted = " or ".join(one for one in classes if one)
            raise InputError(f"{folder}: {name} {kind} is not supported; expected {wanted}")
        home = diffusers if library != "transformers" and hasattr(diffusers, kind) else transformers
        found[name] = getattr(home, kind)
    for name in with_weights(found):
        path = folder / name / "config.json"
        refuse_kernels(path, read_json(path))
    return found


def with_weights(classes: Mapping[str, type]) -> list[str]:
    """The parts that have weights."""
    return [name for name, kind in classes.items() if issubclass(kind, nn.Module)]


def load_parts(
    folder: Path, classes: Mapping[str, type], dtype: torch.dtype, quantize: str | None = None
) -> dict[str, Any]:
    """Every part, loaded; safetensors only.

    Args:
        quantize: how the matrices of all parts but the auto-encoder are kept; see `vilex.t2i.quantization`.
    Raises:
        InputError: a file is missing or damaged (it is named).
    """
    for name in with_weights(classes):
        check_safetensors(folder / name)
    with as_configured(folder):
        components = {
            name: _load(folder / name, kind, dtype, quantize if name != AUTO_ENCODER else None)
            for name, kind in classes.items()
        }
        _check_words(folder, components)
    return components


def shape_parts(folder: Path, classes: Mapping[str, type], dtype: torch.dtype) -> dict[str, Any]:
    """Every part without weights, on the meta device; no weight file need be there.

    Raises:
        InputError: a configuration is missing or damaged.
    """
    with as_configured(folder):
        return {name: _shape(folder / name, kind, dtype) for name, kind in classes.items()}


def frozen_bytes(t2i: FrozenT2I, quantize: str | None = None) -> int:
    """What all parts take that have weights, quantised as `load_parts` would."""
    return sum(stored_bytes(getattr(t2i, name), quantize if name != AUTO_ENCODER else None) for name in t2i.names)


def _load(folder: Path, kind: Any, dtype: torch.dtype, quantize: str | None = None) -> Any:
    if not issubclass(kind, nn.Module):
        return _load_words(folder, kind)
    how = {"quantization_config": quantization_of(kind, quantize, dtype)} if quantize else {}
    module, about = kind.from_pretrained(folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **how)
    check_whole(folder, module, about)
    return module


def _load_words(folder: Path, kind: Any) -> Any:
    """A tokenizer; without `tokenizer.json` one of T5's is converted, for which transformers has no good word."""
    if (folder / "spiece.model").is_file() and not (folder / "tokenizer.json").is_file():
        with needs("t5"):
            import google.protobuf  # noqa: F401
            import sentencepiece  # noqa: F401
    return kind.from_pretrained(folder)


def _check_words(folder: Path, components: Mapping[str, Any]) -> None:
    """Tokenizers load without their vocabulary's file too, and then know no words."""
    readers = {name: part for name, part in components.items() if name.startswith("text_encoder")}
    for name, reader in readers.items():
        own = name.replace("text_encoder", "tokenizer")
        known, words = len(components[own]), reader.get_input_embeddings().num_embeddings
        if known < words // 2:
            raise InputError(
                f"{folder / own}: knows {known} words of the text encoder's {words}; a file is missing, fetch it again"
            )


def _shape(folder: Path, kind: Any, dtype: torch.dtype) -> Any:
    if not issubclass(kind, nn.Module):
        return kind.from_pretrained(folder)
    with torch.device("meta"):
        if issubclass(kind, transformers.PreTrainedModel):
            config = kind.config_class.from_pretrained(folder)
            module = kind(config.encoder if isinstance(config, T5GemmaConfig) else config)
        else:
            module = kind.from_config(read_json(folder / "config.json"))
    return nn.Module.to(module, dtype)
