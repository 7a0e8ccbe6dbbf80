"""Pictures to numbers in -1..1, and back."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_pixels(image: Image.Image) -> Tensor:
    """RGB to [3, H, W] in -1..1."""
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1


def to_images(pixels: Tensor) -> list[Image.Image]:
    """[B, 3, H, W] in -1..1 to PIL."""
    values = (pixels.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(one) for one in (values * 255).round().astype(np.uint8)]
