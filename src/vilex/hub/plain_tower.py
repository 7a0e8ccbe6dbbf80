"""A tuned tower for programs that know nothing of vilex: as a vision model of its own, or inside a PaliGemma.

A published PaliGemma is rewritten file by file: its shards keep their names, their precision and all bytes that are
not the tower's, so that transformers, vLLM and VLMEvalKit read it as they read the original.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import SiglipVisionConfig

from vilex.encoder.eyes import Eyes, load_eyes
from vilex.encoder.preprocess import Preprocess
from vilex.encoder.towers import OpenClipTower
from vilex.errors import InputError
from vilex.hub.folder import HUB_PATTERNS, check_safetensors, read_json, resolve
from vilex.hub.loading import quiet_loading
from vilex.hub.state_hash import state_hash
from vilex.paths import replacing_folder

INDEX = "model.safetensors.index.json"
ABOUT = "vilex-tower.json"
PROCESSOR = "preprocessor_config.json"
BICUBIC = 3  # as image processors number it
# A tower's weights, as PaliGemma's files have named them so far.
IN_PALIGEMMA = re.compile(r"(?:model\.)?vision_tower\.(?:vision_model\.)?(.+)")
# What changes a tower's output and no shape of its weights.
UNSHAPED = ("num_attention_heads", "hidden_act", "layer_norm_eps", "image_size", "patch_size")


def export_tower(name: str, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Write a model's tower as a vision model of its own class (`SiglipVisionModel`) with its image processor.

    Args:
        name: a ViLex encoder, or a vision model. out: a new folder.
    Returns:
        What `vilex-tower.json` in it says.
    Raises:
        InputError: as `load_eyes`; the tower is open_clip's; or `out` is there, or cannot be written.
    """
    eyes = _transformers_eyes(name)
    tower = eyes.tower

    def write(folder: Path) -> None:
        with quiet_loading():
            tower.save_pretrained(folder, safe_serialization=True)
        if tower.config.model_type == "siglip_vision_model":
            for path in folder.glob("*.safetensors"):  # as published: older versions of transformers know no other
                save_file({f"vision_model.{key}": value for key, value in load_file(path).items()}, path, _FORMAT)
        _write_json(folder / PROCESSOR, _processor(eyes.preprocess))

    return _export(write, name, tower, out, overwrite)


def export_paligemma(name: str, checkpoint: str, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Write a published PaliGemma with another tower in it.

    Args:
        name: a ViLex encoder, or a vision model. checkpoint: PaliGemma's folder or hub id. out: a new folder.
    Returns:
        What `vilex-tower.json` in it says.
    Raises:
        InputError: as `load_eyes`; the checkpoint is no PaliGemma; its tower has other weights, other shapes or
            another arithmetic, the first of which is named; or `out` is there, or cannot be written.
    """
    folder = resolve(checkpoint)
    config = read_json(folder / "config.json")
    if config.get("model_type") != "paligemma":
        raise InputError(f"--paligemma {checkpoint}: a {config.get('model_type')!r}; expected a PaliGemma")
    eyes = _transformers_eyes(name)
    tower = eyes.tower
    files = weight_files(folder)
    places = {path: _places(path) for path in files}
    _check_shapes(checkpoint, {key: shape for held in places.values() for key, shape in held.items()}, tower)
    _check_arithmetic(checkpoint, config.get("vision_config") or {}, tower)
    state = tower.state_dict()

    def write(aside: Path) -> None:
        aside.mkdir()
        for path in (one for pattern in (*HUB_PATTERNS, "LICENSE*") for one in folder.glob(pattern)):
            shutil.copyfile(path, aside / path.name)
        for path in files:
            if places[path]:
                save_file(_replaced(load_file(path), state), aside / path.name, _metadata(path))
            else:
                shutil.copyfile(path, aside / path.name)
        own = read_json(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else _processor(eyes.preprocess)
        mean_std = {"image_mean": list(eyes.preprocess.mean), "image_std": list(eyes.preprocess.std)}
        _write_json(aside / PROCESSOR, own | mean_std)

    return _export(write, name, tower, out, overwrite, {"paligemma": checkpoint})


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a transformers folder: those of its index, or the one there is."""
    check_safetensors(folder)
    if not (folder / INDEX).is_file():
        return [folder / "model.safetensors"] if (folder / "model.safetensors").is_file() else _all(folder)
    names = sorted(set(read_json(folder / INDEX).get("weight_map", {}).values()))
    for name in names:
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: missing; the model folder is incomplete, fetch it again")
    return [folder / name for name in names]


_FORMAT = {"format": "pt"}


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _transformers_eyes(name: str) -> Eyes:
    eyes = load_eyes(name)
    if isinstance(eyes.tower, OpenClipTower):
        raise InputError(f"{name}: its tower is open_clip's ({eyes.tower.name}), which transformers has no class for")
    return eyes


def _check_arithmetic(checkpoint: str, vision: dict[str, Any], tower: Any) -> None:
    kind = vision.get("model_type", "siglip_vision_model")
    if kind != tower.config.model_type:
        raise InputError(f"{checkpoint}: its tower is a {kind}, this one a {tower.config.model_type}; give its like")
    known = {key: value for key, value in vision.items() if key != "model_type"}
    own = SiglipVisionConfig(**known) if kind == "siglip_vision_model" else type(tower.config)(**known)
    for key in UNSHAPED:
        there, here = getattr(own, key), getattr(tower.config, key)
        if there != here:
            raise InputError(f"{checkpoint}: its tower has {key} {there}, this one {here}; give a checkpoint that fits")


def _places(path: Path) -> dict[str, list[int]]:
    """The shapes of a file's weights that are the tower's, by their names in the file."""
    with safetensors.safe_open(path, "pt") as file:
        return {key: file.get_slice(key).get_shape() for key in file.keys() if IN_PALIGEMMA.fullmatch(key)}  # noqa: SIM118


def _check_shapes(checkpoint: str, found: dict[str, list[int]], tower: Any) -> None:
    """Strictly: the same weights on both sides, each of the same shape."""
    wanted = {key: list(value.shape) for key, value in tower.state_dict().items()}
    there = {_short(key): key for key in found}
    for key, shape in wanted.items():
        if key in there and found[there[key]] != shape:
            raise InputError(
                f"{checkpoint}: {there[key]} is {found[there[key]]} there and {shape} in this tower; give a checkpoint "
                "of the same size and resolution"
            )
    for what, keys in (("no", wanted.keys() - there.keys()), ("also", there.keys() - wanted.keys())):
        if keys:
            raise InputError(f"{checkpoint}: its tower has {what} {min(keys)}; expected exactly this tower's weights")


def _short(key: str) -> str:
    found = IN_PALIGEMMA.fullmatch(key)
    return found[1] if found else key


def _replaced(held: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        key: state[_short(key)].to(value.dtype).contiguous() if IN_PALIGEMMA.fullmatch(key) else value
        for key, value in held.items()
    }


def _metadata(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, "pt") as file:
        return dict(file.metadata() or _FORMAT)


def _processor(preprocess: Preprocess) -> dict[str, Any]:
    """SigLIP's image processor: the whole picture squashed to a square, bicubic, then normalised."""
    size = preprocess.size
    return {
        "image_processor_type": "SiglipImageProcessor",
        "do_resize": True, "size": {"height": size, "width": size}, "resample": BICUBIC,
        "do_rescale": True, "rescale_factor": 1 / 255, "do_convert_rgb": True,
        "do_normalize": True, "image_mean": list(preprocess.mean), "image_std": list(preprocess.std),
    }  # fmt: skip


def _export(
    write: Callable[[Path], None],
    name: str,
    tower: Any,
    out: Path,
    overwrite: bool,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A folder, whole or not at all."""
    if out.exists() and not (overwrite and out.is_dir()):
        raise InputError(f"{out}: exists; give another name, or --overwrite" + " a folder" * (not out.is_dir()))
    about = {"tower": name, "tower_sha256": state_hash(tower.state_dict()), **(more or {})}
    try:
        with replacing_folder(out) as aside:
            write(aside)
            _write_json(aside / ABOUT, about)
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{out}: cannot be written ({reason}); give another folder") from None
    return about


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
