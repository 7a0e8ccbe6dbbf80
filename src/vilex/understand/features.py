"""What a language model sees of an image: parts, each a row of vectors of one width. Always frozen.

patches          the tower's, before any pooling (Table 3)                                 256 of So400m/14 at 224
patches+tokens   and n ViLex tokens of each view, the whole first, then crops row by row   256 + 5 x 16 (Table 4)
tokens           the ViLex tokens alone                                                    5 x 16
vae              the text-to-image model's latents as patches (Table 4)                    256
patches+pooled   and n patches of each view, averaged over a square of the picture: the    256 + 5 x 16
                 same extra resolution without the pooler, a control that the paper lacks
pooled           those alone
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from vilex.encoder.eyes import Eyes
from vilex.encoder.towers import patches_of
from vilex.errors import InputError
from vilex.hub.state_hash import state_hash
from vilex.settings import Names, Range
from vilex.understand.latents import LatentPatches, load_vae
from vilex.understand.views import Views, squash

Kind = Literal["patches", "patches+tokens", "tokens", "vae", "patches+pooled", "pooled"]
Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class FeaturesConfig:
    """What the language model sees, and where that is kept."""

    kind: Kind = "patches"  # which vectors of a picture; the page on understanding tells them apart
    # tokens, or pooled patches, of each view; the paper's 16 of 5 views are 80
    tokens_per_view: Annotated[int, Range(1, 1024)] = 16
    grid: Annotated[int, Range(1, 16, "1 is the whole picture alone")] = 2  # crops a side; 2 makes 5 views
    # of kind vae: the text-to-image model whose auto-encoder it is; empty is the encoder's own base
    vae: Annotated[str, Names.MODEL] = ""
    dtype: Dtype = "float32"  # precision of what looks
    cache: Annotated[str, Names.FILE] = ""  # folder that keeps features on disk; empty keeps none
    cache_dtype: Dtype = "bfloat16"  # precision of what is kept there


@dataclass(frozen=True)
class FeaturePart:
    """`count` vectors of `width` numbers each."""

    name: Literal["patches", "tokens", "latents", "pooled"]
    count: int
    width: int


class ImageFeatures:
    """Frozen eyes over views of pictures.

    Args:
        eyes: a tower, with its pooler where tokens are asked for. config: which features.
        vae: of kind `vae`; loaded by `config.vae`, or as the encoder names it, if not given.

    Attributes:
        parts: what comes out, in this order. views: what makes the input; it can go to data workers.
    Raises:
        InputError: the eyes have no pooler, fewer tokens, or too few patches to average.
    """

    def __init__(self, eyes: Eyes, config: FeaturesConfig, vae: Any = None):
        self.eyes, self.config, self.kind = eyes, config, config.kind
        self.latents: LatentPatches | None = None
        self._hash = ""
        size = eyes.preprocess.size
        self.side = self._patches_a_side(size)
        if config.kind == "vae":
            vae = load_vae(config.vae or None, eyes.name) if vae is None else vae
            self.latents = LatentPatches(vae, self.side, size)
        crops = config.grid if config.kind not in ("patches", "vae") else 1
        shown = self.latents.preprocess if self.latents else replace(eyes.preprocess, fit=squash)
        self.views = Views(shown, crops)
        self.parts = tuple(self._part(name) for name in self._names())

    def _names(self) -> list[str]:
        return ["latents"] if self.kind == "vae" else self.kind.split("+")

    def _part(self, name: str) -> FeaturePart:
        per_view, views = self.config.tokens_per_view, self.views.count
        if name == "latents":
            assert self.latents
            return FeaturePart("latents", self.latents.count, self.latents.width)
        if name == "patches":
            return FeaturePart("patches", self.side**2, self.eyes.width)
        if name == "tokens":
            pooler, limit = self.eyes.pooler, self.eyes.encoder.config.num_tokens if self.eyes.encoder else 0
            if per_view > limit:
                raise InputError(
                    f"features.tokens_per_view: {per_view}, but {self.eyes.name} has {limit}; ask for no more"
                )
            return FeaturePart("tokens", views * per_view, len(pooler.mean))
        if math.isqrt(per_view) ** 2 != per_view or per_view > self.side**2:
            raise InputError(
                f"features.tokens_per_view: {per_view} pooled patches make no square of {self.side} x {self.side}; "
                "expected a square number, as 16"
            )
        return FeaturePart("pooled", views * per_view, self.eyes.width)

    @torch.no_grad()
    def _patches_a_side(self, size: int) -> int:
        first = next(self.eyes.tower.parameters())
        patches = patches_of(self.eyes.tower, torch.zeros(1, 3, size, size, device=first.device, dtype=first.dtype))
        side = math.isqrt(patches.shape[1])
        if side**2 != patches.shape[1]:
            raise InputError(f"{self.eyes.name}: {patches.shape[1]} patches make no square; give another tower")
        return side

    @property
    def count(self) -> int:
        """N, vectors of an image in all its parts."""
        return sum(part.count for part in self.parts)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """All that looks; where no tokens are asked for, the tower alone."""
        if self.latents:
            return (self.latents.vae,)
        with_pooler = self.eyes.encoder if "tokens" in self._names() else None
        return (with_pooler or self.eyes.tower,)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "ImageFeatures":
        """Look on a device, in a precision."""
        self.weights_sha256()  # of the weights as they came
        for module in self.modules:
            module.to(device, dtype)
        return self

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> list[Tensor]:
        """Views of images to features.

        Args:
            pixels: [B, V, 3, S, S], as `views` makes them.
        Returns:
            [B, N_i, w_i] for each part.
        """
        weights = next(self.modules[0].parameters())
        pixels = pixels.to(weights.device, weights.dtype)
        if self.latents:
            return [self.latents(pixels[:, 0])]
        patches = patches_of(self.eyes.tower, pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
        return [self._of_patches(part.name, patches) for part in self.parts]

    def _of_patches(self, name: str, patches: Tensor) -> Tensor:
        """A part of [B, V, P, D]."""
        if name == "patches":
            return patches[:, 0]
        return self._tokens(patches) if name == "tokens" else self._pool(patches)

    def _tokens(self, patches: Tensor) -> Tensor:
        """[B, V, P, D] -> [B, V n, d], of mean 0 and spread 1 where the vocabulary's words are."""
        pooler = self.eyes.pooler
        tokens = (pooler(patches.flatten(0, 1), self.config.tokens_per_view) - pooler.mean) / pooler.std
        return tokens.unflatten(0, patches.shape[:2]).flatten(1, 2)

    def _pool(self, patches: Tensor) -> Tensor:
        """[B, V, P, D] -> [B, V n, D], each the mean over one of n squares of a view."""
        grid = patches.flatten(0, 1).transpose(1, 2).unflatten(2, (self.side, self.side))
        pooled = F.adaptive_avg_pool2d(grid, math.isqrt(self.config.tokens_per_view))
        return pooled.flatten(2).transpose(1, 2).unflatten(0, patches.shape[:2]).flatten(1, 2)

    def of_images(self, images: Sequence[Image.Image]) -> list[Tensor]:
        """RGB pictures of any sizes to features, [B, N_i, w_i] for each part."""
        return self(torch.stack([self.views(image) for image in images]))

    def about(self) -> dict[str, Any]:
        """All that decides what comes out: weights, settings, preparation, precision."""
        shown = self.views.preprocess
        weights = next(self.modules[0].parameters()).dtype
        about: dict[str, Any] = {
            "kind": self.kind, "views": self.views.count, "size": shown.size, "mean": list(shown.mean),
            "std": list(shown.std), "dtype": str(weights).removeprefix("torch."),
            "weights_sha256": self.weights_sha256(),
        }  # fmt: skip
        if self.kind not in ("patches", "vae"):
            about["tokens_per_view"] = self.config.tokens_per_view
        if self.latents:
            about["fold"] = self.latents.fold
        return about

    def weights_sha256(self) -> str:
        """Of all that looks."""
        self._hash = self._hash or state_hash(self.modules[0].state_dict())
        return self._hash

    def key(self) -> str:
        """A name for exactly these features."""
        return hashlib.sha256(json.dumps(self.about(), sort_keys=True).encode()).hexdigest()
