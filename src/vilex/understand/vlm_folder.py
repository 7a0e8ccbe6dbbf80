"""A vision-language model's folder: made of a published language model and an encoder, saved, and loaded again.

OUT/config.json, model.safetensors, tokenizer files   the language model as transformers saves it; over patches of a
                                                      tower like PaliGemma's own it is a plain PaliGemma
OUT/projectors.safetensors                            linear maps that are not PaliGemma's own
OUT/encoder, OUT/tower, OUT/vae                       what looks, where it does not lie in PaliGemma
OUT/vilex-vlm.json                                    which features, of which weights
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PaliGemmaForConditionalGeneration

from vilex.encoder.eyes import Eyes, load_eyes
from vilex.encoder.preprocess import Preprocess
from vilex.errors import InputError
from vilex.hub.folder import as_configured, check_safetensors, check_whole, read_json, refuse_kernels, resolve
from vilex.hub.loading import quiet_loading
from vilex.hub.state_hash import state_hash
from vilex.paths import replacing_folder
from vilex.settings import build
from vilex.understand.features import FeaturesConfig, ImageFeatures
from vilex.understand.latents import load_autoencoder
from vilex.understand.vlm import VisualLanguageModel

ABOUT = "vilex-vlm.json"
PROJECTORS = "projectors.safetensors"
PROCESSOR = "preprocessor_config.json"
FILES = (PROCESSOR, "processor_config.json")  # of a published PaliGemma, for others to load it by
HALF = (0.5, 0.5, 0.5)


def make_vlm(
    base: str,
    encoder: str,
    features: FeaturesConfig,
    text_length: int = 32,
    scratch: bool = False,
    apart: bool = False,
) -> VisualLanguageModel:
    """A language model that is to learn to see.

    Args:
        base: PaliGemma or a causal language model, folder or hub id. encoder: what looks, as `load_eyes` takes it;
            empty for PaliGemma's own tower. scratch: random weights; of `base` only configuration and words are read.
        text_length, apart: see `Layout`.
    Raises:
        InputError: a model cannot be loaded, or they do not go together.
    """
    folder = resolve(base)
    lm, tokenizer = load_language_model(folder, scratch)
    eyes = load_eyes(encoder) if encoder else _own_eyes(lm, folder, f"{base}'s own tower")
    vlm = VisualLanguageModel(lm, tokenizer, ImageFeatures(eyes, features), text_length, apart)
    vlm.files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
    return vlm


def make_features(base: str, encoder: str, features: FeaturesConfig) -> ImageFeatures:
    """What `make_vlm` would see with; the language model is loaded only where its own tower looks."""
    if encoder:
        return ImageFeatures(load_eyes(encoder), features)
    folder = resolve(base)
    return ImageFeatures(_own_eyes(load_language_model(folder)[0], folder, f"{base}'s own tower"), features)


def load_language_model(folder: Path, scratch: bool = False) -> tuple[Any, Any]:
    """PaliGemma or a causal language model in float32, and its tokenizer; see `make_vlm`."""
    settings = read_json(folder / "config.json")
    refuse_kernels(folder / "config.json", settings)
    kind: Any = PaliGemmaForConditionalGeneration if settings.get("model_type") == "paligemma" else AutoModelForCausalLM
    with quiet_loading(), as_configured(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder, attn_implementation="sdpa")
        if scratch:
            return _random(kind, config), tokenizer
        check_safetensors(folder)
        lm, about = kind.from_pretrained(
            folder, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    about["missing_keys"] = set(about["missing_keys"]) - {"lm_head.weight"}  # tied to the words where it is missing
    check_whole(folder, lm, about)
    return lm.eval(), tokenizer


def _random(kind: Any, config: Any) -> Any:
    """Weights of spread 1 / sqrt(width): with transformers' 0.02, of a width of 2048, a narrow model hardly learns."""
    text = config.get_text_config()
    text.initializer_range = text.hidden_size**-0.5
    made = kind(config) if kind is PaliGemmaForConditionalGeneration else kind.from_config(config)
    return made.float().eval()


def _own_eyes(lm: Any, folder: Path, name: str) -> Eyes:
    if not isinstance(lm, PaliGemmaForConditionalGeneration):
        raise InputError(f"model.encoder is missing: {folder} is no PaliGemma, so it has no tower of its own")
    how = read_json(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    mean, std = (tuple(how.get(key) or HALF) for key in ("image_mean", "image_std"))
    tower = lm.model.vision_tower
    return Eyes.of_tower(tower, Preprocess(tower.config.image_size, mean, std), name)


def save_vlm(vlm: VisualLanguageModel, folder: Path, training: dict[str, Any] | None = None) -> None:
    """Write a model, whole or not at all; what was there is replaced.

    Args:
        training: provenance: what it was trained on and for how long.
    Raises:
        OSError, SafetensorError: the disk refuses.
    """
    with replacing_folder(folder) as aside:
        with quiet_loading():
            vlm.lm.save_pretrained(aside, safe_serialization=True)
            vlm.tokenizer.save_pretrained(aside)
            eyes = _save_eyes(vlm, aside)
        for name, content in vlm.files.items():
            (aside / name).write_bytes(content)
        if vlm.is_paligemma and eyes == "own":
            _write_processor(aside, vlm.features.eyes.preprocess)
        if vlm.projectors:
            state = {name: value.detach().cpu().contiguous() for name, value in vlm.projectors.state_dict().items()}
            save_file(state, aside / PROJECTORS, {"format": "pt"})
        about = {
            "features": {**dataclasses.asdict(vlm.features.config), "cache": "", "vae": ""},
            "eyes": eyes,
            "preprocess": {key: getattr(vlm.features.eyes.preprocess, key) for key in ("size", "mean", "std")},
            "eyes_sha256": _digest(vlm.features),
            "text_length": vlm.layout.text_length,
            "apart": vlm.layout.apart,
            "training": training or {},
        }
        (aside / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _save_eyes(vlm: VisualLanguageModel, folder: Path) -> str:
    """Where what looks lies: in PaliGemma itself, or in a folder of that name."""
    features = vlm.features
    if features.latents:
        features.latents.vae.save_pretrained(folder / "vae", safe_serialization=True)
    needed = features.eyes.encoder if features.modules[0] is features.eyes.encoder else None
    if needed is not None:
        needed.save_pretrained(folder / "encoder", safe_serialization=True)
        return "encoder"
    if vlm.own_patches:
        return "own"
    features.eyes.tower.save_pretrained(folder / "tower", safe_serialization=True)
    return "tower"


def _write_processor(folder: Path, preprocess: Preprocess) -> None:
    path = folder / PROCESSOR
    own = read_json(path) if path.is_file() else {"image_processor_type": "SiglipImageProcessor"}
    mean_std = {"image_mean": list(preprocess.mean), "image_std": list(preprocess.std)}
    path.write_text(json.dumps(own | mean_std, indent=2) + "\n", encoding="utf-8")


def load_vlm(folder: str | Path) -> VisualLanguageModel:
    """A model that `save_vlm` wrote.

    Raises:
        InputError: the folder holds none, or what is missing, damaged or changed since.
    """
    folder = Path(folder)
    if not (folder / ABOUT).is_file():
        raise InputError(f"{folder}: no {ABOUT}; expected a folder that `vilex understand train` wrote, as RUN/vlm")
    about = read_json(folder / ABOUT)
    lm, tokenizer = load_language_model(folder)
    try:
        features = build(FeaturesConfig, about["features"], where=str(folder / ABOUT))
        shown = Preprocess(**{key: _frozen(value) for key, value in about["preprocess"].items()})
        where, text_length, digest = about["eyes"], about["text_length"], about["eyes_sha256"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / ABOUT}: of another version ({error}); train it again") from None
    eyes = _load_eyes(folder, where, lm, shown)
    vae = load_autoencoder(folder) if features.kind == "vae" else None
    vlm = VisualLanguageModel(lm, tokenizer, ImageFeatures(eyes, features, vae), text_length, about.get("apart", False))
    if _digest(vlm.features) != digest:
        raise InputError(f"{folder}: what looks in it is not what it was trained with (its SHA-256 differs)")
    if vlm.projectors:
        path = folder / PROJECTORS
        if not path.is_file():
            raise InputError(f"{path}: missing; the model folder is incomplete, copy it again")
        with as_configured(folder):
            vlm.projectors.load_state_dict(load_file(path))
    vlm.files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
    return vlm.eval()


def _load_eyes(folder: Path, where: str, lm: Any, shown: Preprocess) -> Eyes:
    if where == "own":
        return Eyes.of_tower(lm.model.vision_tower, shown, str(folder))
    eyes = load_eyes(str(folder / where))
    return eyes if eyes.encoder else Eyes.of_tower(eyes.tower, shown, str(folder))


def _digest(features: ImageFeatures) -> str:
    """Of what looks, in the precision that it is loaded in."""
    return state_hash({key: value.float() for key, value in features.modules[0].state_dict().items()})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
