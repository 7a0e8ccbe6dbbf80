"""The encoder's shape, as a transformers configuration."""

from typing import Any

from transformers import PretrainedConfig

from vilex.pictures.fit import Fit, check_fit


class ViLexConfig(PretrainedConfig):
    """What a `ViLexEncoder` is made of, and which frozen model its tokens speak to.

    Args:
        tower: a transformers vision configuration as a dictionary, `model_type` included
            (`siglip_vision_model`, `clip_vision_model`, `dinov2`, ...), or
            `{"model_type": "open_clip", "name": ...}` for an open_clip tower such as CoCa.
        width: d, the embedding width of the text encoder (the sum of widths where there are several).
        num_tokens: n, how many tokens an image becomes at most; 75 fill CLIP's 77 positions.
        blocks: transformer blocks of the attention pooler.
        heads: attention heads of the pooler.
        mlp_ratio: hidden width of the pooler's MLPs over its own.
        pooler_width: of the pooler's blocks; `width` if 0.
        image_size: pixels a side of the tower's input.
        fit: how pictures that are not square are brought to it: `crop`, `pad` or `squash`; see `vilex.pictures.fit`.
        image_mean, image_std: normalisation of RGB in 0..1 before the tower.
        method: how an image speaks to the frozen model: `vilex`, or a baseline: `de-diffusion` (words),
            `ip-adapter` (past the text encoder).
        vocabulary_size: of `de-diffusion`, rows of the lookup matrix.
        adapter_shapes: of `ip-adapter`, widths of the denoiser's cross-attention layers.
        base_model: the frozen text-to-image model: a folder inside the model's own, or a hub id.
        base_sha256: SHA-256 of each weight file of `base_model`, by its path inside it.
        training: provenance: what it was trained on and for how long.
    """

    model_type = "vilex"

    def __init__(
        self,
        tower: dict[str, Any] | None = None,
        width: int = 768,
        num_tokens: int = 75,
        blocks: int = 5,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        pooler_width: int = 0,
        image_size: int = 224,
        fit: Fit = "crop",
        image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        image_std: tuple[float, float, float] = (0.5, 0.5, 0.5),
        method: str = "vilex",
        vocabulary_size: int = 0,
        adapter_shapes: list[tuple[int, int]] | None = None,
        base_model: str | None = None,
        base_sha256: dict[str, str] | None = None,
        training: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        self.tower = tower or {}
        self.width = width
        self.num_tokens = num_tokens
        self.blocks = blocks
        self.heads = heads
        self.mlp_ratio = mlp_ratio
        self.pooler_width = pooler_width
        self.image_size = image_size
        self.fit = check_fit(fit)
        self.image_mean = tuple(image_mean)
        self.image_std = tuple(image_std)
        self.method = method
        self.vocabulary_size = vocabulary_size
        self.adapter_shapes = adapter_shapes or []
        self.base_model = base_model
        self.base_sha256 = base_sha256 or {}
        self.training = training or {}
        super().__init__(**kwargs)
