"""Load an encoder, encode images, compose a prompt: images as words in any ComfyUI graph.

ComfyUI's CLIP object takes lists of (token, weight) in which a token may be an id or an embedding, as it does for
textual inversion. So a composed prompt is its own tokens with image tokens between them, encoded by the CLIP object
itself; weights in brackets, "(red:1.3)", and LoRAs on the text encoder keep working.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vilex.encoder import ViLexEncoder, load_encoder

from .compose import Conditioning, compose, stack

CATEGORY = "vilex"


class LoadViLex:
    """An encoder by folder or hub id."""

    CATEGORY, FUNCTION, RETURN_TYPES = CATEGORY, "load", ("VILEX",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"encoder": ("STRING", {"default": "run/encoder"})}}

    def load(self, encoder: str) -> tuple[ViLexEncoder]:
        return (load_encoder(encoder),)


class EncodeImage:
    """The first tokens of every picture of a batch."""

    CATEGORY, FUNCTION, RETURN_TYPES = CATEGORY, "encode", ("VILEX_TOKENS",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        tokens = ("INT", {"default": 16, "min": 1, "max": 75})
        return {"required": {"vilex": ("VILEX",), "image": ("IMAGE",), "tokens": tokens}}

    def encode(self, vilex: ViLexEncoder, image: Tensor, tokens: int) -> tuple[Tensor]:
        """image: [B, H, W, 3] in 0..1 -> [B, tokens, d].

        Raises:
            InputError: the encoder has fewer tokens.
        """
        pixels = (image[..., :3].clamp(0, 1).cpu().numpy() * 255).round().astype(np.uint8)
        return (torch.cat([vilex.encode([Image.fromarray(one)], tokens) for one in pixels]),)


class ComposePrompt:
    """Words and images, "<a> in the snow, beside (<b:4>:1.2)", to CONDITIONING.

    The second output is the images alone: as the negative of a sampler it makes its guidance text-free (TFG). Images
    in a batch give a batch of conditionings, a picture each.
    """

    CATEGORY, FUNCTION, RETURN_TYPES = CATEGORY, "compose", ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("prompt", "images alone")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        text = ("STRING", {"multiline": True, "default": "<a> in the snow"})
        images = dict.fromkeys(("a", "b", "c"), ("VILEX_TOKENS",))
        return {"required": {"clip": ("CLIP",), "text": text}, "optional": images}

    def compose(self, clip: Any, text: str, **images: Tensor) -> tuple[Conditioning, Conditioning]:
        """images: tokens by name, [B, n, d]. Raises as `vilex` prompts do; see `compose`."""
        composed = compose(clip, text, images)
        prompt, alone = (
            stack([clip.encode_from_tokens_scheduled(tokens) for tokens in side])
            for side in ([one.prompt for one in composed], [one.alone for one in composed])
        )
        return prompt, alone


NODE_CLASS_MAPPINGS = {"LoadViLex": LoadViLex, "ViLexEncodeImage": EncodeImage, "ViLexComposePrompt": ComposePrompt}
NODE_DISPLAY_NAME_MAPPINGS = {
    "LoadViLex": "Load ViLex encoder",
    "ViLexEncodeImage": "ViLex: image to tokens",
    "ViLexComposePrompt": "ViLex: words and images",
}
