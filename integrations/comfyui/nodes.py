"""Load an encoder, encode an image, compose a prompt: images as words in any ComfyUI graph.

ComfyUI's CLIP object takes lists of (token, weight) in which a token may be an id or an embedding, as it does for
textual inversion. So a composed prompt is its own tokens with image tokens between them, encoded by the CLIP object
itself; weights in brackets, "(red:1.3)", and LoRAs on the text encoder keep working.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image

from vilex.encoder import ViLexEncoder, load_encoder
from vilex.errors import InputError
from vilex.prompt import Slot, parse

WIDTHS = {"l": 768, "g": 1280, "h": 1024, "t5xxl": 4096}  # ComfyUI's names of text encoders, in a token's order
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
    """A picture's first tokens; of a batch, the first picture's."""

    CATEGORY, FUNCTION, RETURN_TYPES = CATEGORY, "encode", ("VILEX_TOKENS",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        tokens = ("INT", {"default": 16, "min": 1, "max": 75})
        return {"required": {"vilex": ("VILEX",), "image": ("IMAGE",), "tokens": tokens}}

    @torch.no_grad()
    def encode(self, vilex: ViLexEncoder, image: torch.Tensor, tokens: int) -> tuple[torch.Tensor]:
        """image: [B, H, W, 3] in 0..1 -> [tokens, d]."""
        pixels = (image[0].clamp(0, 1).cpu().numpy() * 255).round().astype(np.uint8)
        return (vilex.encode([Image.fromarray(pixels)], tokens)[0],)


class ComposePrompt:
    """Words and images, "<a> in the snow, beside <b>", to CONDITIONING.

    The second output is the images alone: as the negative of a sampler it makes its guidance text-free (TFG).
    """

    CATEGORY, FUNCTION, RETURN_TYPES = CATEGORY, "compose", ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("prompt", "images alone")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        text = ("STRING", {"multiline": True, "default": "<a> in the snow"})
        images = dict.fromkeys(("a", "b", "c"), ("VILEX_TOKENS",))
        return {"required": {"clip": ("CLIP",), "text": text}, "optional": images}

    def compose(self, clip: Any, text: str, **images: torch.Tensor) -> tuple[Any, Any]:
        prompt = parse(text)
        alone = prompt.image_only()
        return tuple(
            clip.encode_from_tokens_scheduled(compose_tokens(clip, one.parts, images)) for one in (prompt, alone)
        )


def compose_tokens(clip: Any, parts: tuple[str | Slot, ...], images: dict[str, torch.Tensor]) -> dict[str, list]:
    """A prompt's parts as ComfyUI's tokens: by text encoder, one list of (id or embedding, weight).

    Raises:
        InputError: an image is not connected, has too few tokens or another width than the text encoders, or the
            prompt does not fit.
    """
    empty = clip.tokenize("")
    start, found = 0, {}
    total = sum(WIDTHS.get(name, 0) for name in empty)
    for name, (frame,) in ((name, batches[:1]) for name, batches in empty.items()):
        columns = slice(start, start + WIDTHS.get(name, 0))
        start = columns.stop
        before, after = _around(name, frame)
        middle = []
        for part in parts:
            if isinstance(part, str):
                middle += _words(clip.tokenize(part)[name], len(before), after[0][0])
                continue
            tokens = _tokens_of(part, images, total)
            middle += [(row, 1.0) for row in tokens[:, columns]]
        if len(before) + len(middle) + 1 > len(frame):
            raise InputError(f"prompt: {len(middle)} tokens, at most {len(frame) - len(before) - 1} fit; shorten it")
        padding = len(frame) - len(before) - len(middle) - 1
        found[name] = [[*before, *middle, after[0], *(after[1:] * padding)[:padding]]]
    return found


def _around(name: str, frame: list[tuple[Any, float]]) -> tuple[list, list]:
    """What stands before an empty prompt ([BOS]; nothing for T5), and its [EOS] with one padding after it."""
    start = 0 if name == "t5xxl" else 1
    return frame[:start], frame[start : start + 2]


def _words(batches: list[list[tuple[Any, float]]], skip: int, end: Any) -> list[tuple[Any, float]]:
    """The tokens of a text without what frames it."""
    found = []
    for entry in batches[0][skip:]:
        if not isinstance(entry[0], torch.Tensor) and entry[0] == end:
            break
        found.append(entry)
    return found


def _tokens_of(slot: Slot, images: dict[str, torch.Tensor], width: int) -> torch.Tensor:
    if slot.name not in images:
        raise InputError(f"prompt: <{slot.name}> is not connected; connect tokens to the input '{slot.name}'")
    tokens = images[slot.name]
    if tokens.shape[1] != width:
        raise InputError(
            f"<{slot.name}>: tokens have width {tokens.shape[1]}, the text encoders {width}; use the encoder's own base"
        )
    if slot.count and slot.count > len(tokens):
        raise InputError(f"prompt: <{slot.name}> has {len(tokens)} tokens, got a budget of {slot.count}")
    return tokens[: slot.count]


NODE_CLASS_MAPPINGS = {"LoadViLex": LoadViLex, "ViLexEncodeImage": EncodeImage, "ViLexComposePrompt": ComposePrompt}
NODE_DISPLAY_NAME_MAPPINGS = {
    "LoadViLex": "Load ViLex encoder",
    "ViLexEncodeImage": "ViLex: image to tokens",
    "ViLexComposePrompt": "ViLex: words and images",
}
