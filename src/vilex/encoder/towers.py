"""Vision towers: any transformers vision model by configuration, CoCa through open_clip.

SigLIP, SigLIP 2 at fixed resolutions (the same classes), CLIP, DINOv2 and others whose output is
`last_hidden_state` with the patches last.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, CLIPVisionModel, SiglipVisionModel
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from vilex.errors import InputError, printable
from vilex.extras import needs
from vilex.hub.folder import check_whole, read_json, resolve
from vilex.hub.loading import quiet_loading

OPEN_CLIP = "open_clip"
OPEN_CLIP_PREFIX = f"{OPEN_CLIP}:"
# Those whose output ends in the patches; a configuration from elsewhere can name no other class to be built.
TOWERS = (
    "siglip_vision_model", "clip_vision_model", "dinov2", "dinov2_with_registers", "dinov3_vit", "vit", "ijepa",
)  # fmt: skip
NORMALIZATION = {  # by model_type; all others as SigLIP, -1..1
    "clip_vision_model": (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
    "dinov2": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    "dinov2_with_registers": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
}


def build_tower(settings: dict[str, Any]) -> nn.Module:
    """A tower with random weights from its configuration; see `ViLexConfig.tower`.

    Raises:
        InputError: it is none of `TOWERS`, or open_clip has no such model of its own.
    """
    kind = settings.get("model_type")
    if kind == OPEN_CLIP:
        name = settings.get("name")
        if (
            not isinstance(name, str) or name not in _open_clip().list_models()
        ):  # as hf-hub:OWNER/NAME or a path would be
            raise InputError(f"tower: open_clip has no model {name!r} of its own; expected one of its list_models()")
        return OpenClipTower(name)
    if kind not in TOWERS:
        raise InputError(f"tower: unknown model_type {kind!r}; expected {', '.join(TOWERS)} or {OPEN_CLIP}")
    config = AutoConfig.for_model(**settings)
    return _without_unused_head(AutoModel.from_config(config))


def load_tower(name: str) -> nn.Module:
    """A pre-trained tower by hub id (`owner/name@revision`) or folder, only its vision part, from safetensors.

    `open_clip:coca_ViT-L-14/laion2b_s13b_b90k` loads an open_clip model (extra `vilex[coca]`).

    Raises:
        InputError: there is no such model, its weights are not safetensors, or some of them are missing.
    """
    if name.startswith(OPEN_CLIP_PREFIX):
        return OpenClipTower(*name.removeprefix(OPEN_CLIP_PREFIX).split("/", 1))
    read_tower_settings(name)
    folder = resolve(name)
    try:
        kind = AutoConfig.from_pretrained(folder).model_type
        vision_class = {"siglip": SiglipVisionModel, "clip": CLIPVisionModel}.get(kind, AutoModel)
        with quiet_loading():
            tower, about = vision_class.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
    except Exception as error:  # a configuration may say anything; what it breaks on is its own
        raise InputError(f"tower '{name}': {_reason(error)}") from None
    tower = _without_unused_head(tower)
    check_whole(f"tower '{name}'", tower, about)
    return tower


def read_tower_settings(name: str) -> dict[str, Any]:
    """The dictionary that `build_tower` makes a tower of this shape from; no weights are fetched.

    Raises:
        InputError: there is no such model, or it is none of `TOWERS`.
    """
    if name.startswith(OPEN_CLIP_PREFIX):
        kind = name.removeprefix(OPEN_CLIP_PREFIX).split("/", 1)[0]
        size = (_open_clip().get_model_config(kind) or {}).get("vision_cfg", {}).get("image_size", 224)
        return {"model_type": OPEN_CLIP, "name": kind, "image_size": size}
    folder = resolve(name, weights=False)
    if read_json(folder / "config.json").get("model_type") == "vilex":
        raise InputError(f"tower '{name}': a ViLex encoder, with its own tower; name it as model.encoder")
    try:
        config = AutoConfig.from_pretrained(folder)
    except Exception as error:  # as above
        raise InputError(f"tower '{name}': {_reason(error)}") from None
    settings: dict[str, Any] = getattr(config, "vision_config", config).to_dict()
    if settings.get("model_type") not in TOWERS:
        raise InputError(f"tower '{name}': a {settings.get('model_type')}; expected {', '.join(TOWERS)}")
    return settings


def _reason(error: Exception) -> str:
    return printable(error)[:300] or type(error).__name__


def tower_settings(tower: Any) -> dict[str, Any]:
    """The dictionary that `build_tower` makes the same tower from."""
    if isinstance(tower, OpenClipTower):
        return {"model_type": OPEN_CLIP, "name": tower.name}
    return tower.config.to_dict()


def patch_width(tower: Any) -> int:
    """D, the width of the tower's patches."""
    return tower.width if isinstance(tower, OpenClipTower) else tower.config.hidden_size


def tower_image_size(tower: Any) -> int:
    """Pixels a side of the tower's input."""
    return tower.image_size if isinstance(tower, OpenClipTower) else tower.config.image_size


def tower_normalization(name: str, tower: Any) -> dict[str, tuple[float, ...]]:
    """`image_mean` and `image_std` that a tower was trained with: its own preprocessor's, else its family's."""
    if isinstance(tower, OpenClipTower):
        return {"image_mean": tower.visual.preprocess_cfg["mean"], "image_std": tower.visual.preprocess_cfg["std"]}
    try:
        processor = AutoImageProcessor.from_pretrained(resolve(name, weights=False))
        return {"image_mean": tuple(processor.image_mean), "image_std": tuple(processor.image_std)}
    except (OSError, ValueError):
        mean, std = NORMALIZATION.get(tower.config.model_type, (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD))
        return {"image_mean": tuple(mean), "image_std": tuple(std)}


def checkpoint_tower(tower: Any) -> None:
    """The tower computes activations again in the backward pass instead of holding them."""
    if isinstance(tower, OpenClipTower):
        tower.visual.set_grad_checkpointing()
    else:
        tower.activation_checkpointing_enable()


def patches_of(tower: Any, pixel_values: Tensor) -> Tensor:
    """[B, 3, H, W] -> [B, P, D], the patches after the last layer; class and register tokens left out."""
    if isinstance(tower, OpenClipTower):
        return tower(pixel_values)
    hidden = tower(pixel_values=pixel_values).last_hidden_state
    height, width = pixel_values.shape[-2:]
    patch = tower.config.patch_size
    return hidden[:, hidden.shape[1] - (height // patch) * (width // patch) :]


class OpenClipTower(nn.Module):
    """The vision transformer of an open_clip model, CoCa among them.

    Its patches are those of the last layer, before the attentional pooling that CoCa's captions read from.
    """

    def __init__(self, name: str, pretrained: str | None = None):
        super().__init__()
        self.name, wanted = name, torch.get_default_device()
        with torch.device("cpu"):  # open_clip cannot build on the meta device, where transformers loads
            self.visual = _open_clip().create_model(name, pretrained=pretrained).visual
            for unused in ("attn_pool", "attn_pool_contrastive", "ln_post", "proj"):  # would never train
                if getattr(self.visual, unused, None) is not None:
                    setattr(self.visual, unused, None)
            size = self.visual.image_size
            self.image_size = size[0] if isinstance(size, (tuple, list)) else size
            with torch.no_grad():
                self.width = self(torch.zeros(1, 3, self.image_size, self.image_size)).shape[-1]
        self.to(wanted)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Pixels [B, 3, S, S], normalised, to patches [B, P, w]."""
        seen = self.visual.forward_intermediates(pixel_values, indices=1, output_fmt="NLC", intermediates_only=True)
        return seen["image_intermediates"][-1]


def _open_clip() -> ModuleType:
    with needs("coca"):
        import open_clip
    return open_clip


def _without_unused_head(tower: Any) -> Any:
    """Drop SigLIP's own pooling head: it would be weights that never train."""
    if getattr(tower.config, "vision_use_head", False):
        tower.config.vision_use_head = False
        tower.use_head = False
        tower.head = None
    return tower
