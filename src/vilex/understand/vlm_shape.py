"""The shape of a vision-language model: every weight's size and none of the weights, on the meta device."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PaliGemmaForConditionalGeneration

from vilex.encoder import ViLexConfig, ViLexEncoder
from vilex.encoder.eyes import Eyes
from vilex.encoder.preprocess import Preprocess
from vilex.encoder.towers import OPEN_CLIP_PREFIX, build_tower, read_tower_settings, tower_image_size
from vilex.errors import InputError
from vilex.hub.folder import as_configured, read_json, refuse_kernels, resolve
from vilex.hub.loading import quiet_loading
from vilex.understand.config import TransferConfig
from vilex.understand.features import ImageFeatures
from vilex.understand.latents import vae_shape
from vilex.understand.residual_dropout import ResidualDropout
from vilex.understand.transfer_learning import choose_learning
from vilex.understand.vlm import VisualLanguageModel

HALF = (0.5, 0.5, 0.5)


class ShapedDropout(ResidualDropout):
    """Residual dropout that draws from no generator of its own: what a plan costs, it costs."""

    def _drop(self, x: torch.Tensor, place: int) -> torch.Tensor:
        return x * (torch.rand(x.shape, device=x.device) >= self.rate) / (1 - self.rate)


def shape_of_vlm(config: TransferConfig) -> VisualLanguageModel:
    """What a transfer trains, as it trains it; configurations and words alone are read.

    Raises:
        InputError: a configuration cannot be had, or the parts do not go together.
    """
    model = config.model
    lm, tokenizer = _language_model(model.base)
    eyes = _eyes(model.encoder, lm, model.base)
    vae = vae_shape(config.features.vae or None, eyes.name) if config.features.kind == "vae" else None
    features = ImageFeatures(eyes, config.features, vae)
    for module in features.modules:
        module.to(getattr(torch, config.features.dtype))
    with torch.device("meta"):
        vlm = VisualLanguageModel(lm, tokenizer, features, config.data.text_length, config.data.pack > 0)
        choose_learning(vlm, config)
    if config.objective.dropout:
        ShapedDropout(vlm.lm, config.objective.dropout)
    if config.run.gradient_checkpointing:
        vlm.lm.gradient_checkpointing_enable({"use_reentrant": False})
    if vlm.is_paligemma:
        vlm.lm.model.vision_tower = None  # it looks beside the model; another one is let go
    return vlm.train()


def _language_model(base: str) -> tuple[Any, Any]:
    """PaliGemma or a causal language model without weights, and its tokenizer."""
    folder = resolve(base, weights=False)
    settings = read_json(folder / "config.json")
    refuse_kernels(folder / "config.json", settings)
    with quiet_loading(), as_configured(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder, attn_implementation="sdpa")
        with torch.device("meta"):
            if settings.get("model_type") == "paligemma":
                return PaliGemmaForConditionalGeneration(config).float(), tokenizer
            return AutoModelForCausalLM.from_config(config).float(), tokenizer


def _eyes(encoder: str, lm: Any, base: str) -> Eyes:
    """What looks, as `load_eyes` would load it."""
    if not encoder:
        if not isinstance(lm, PaliGemmaForConditionalGeneration):
            raise InputError(f"model.encoder is missing: {base} is no PaliGemma, so it has no tower of its own")
        tower = lm.model.vision_tower
        return Eyes.of_tower(tower, Preprocess(tower.config.image_size, HALF, HALF), base)
    if not encoder.startswith(OPEN_CLIP_PREFIX):
        folder = resolve(encoder, weights=False)
        if read_json(folder / "config.json").get("model_type") == "vilex":
            with torch.device("meta"):
                return Eyes.of_encoder(ViLexEncoder(ViLexConfig.from_pretrained(folder)), encoder)
    with torch.device("meta"):
        tower = build_tower(read_tower_settings(encoder))
    return Eyes.of_tower(tower, Preprocess(tower_image_size(tower), HALF, HALF), encoder)
