"""Load an encoder, encode images or load their tokens, compose a prompt: images as words in any ComfyUI graph.

ComfyUI's CLIP object takes lists of (token, weight) in which a token may be an id or an embedding, as it does for
textual inversion. So a composed prompt is its own tokens with image tokens between them, encoded by the CLIP object
itself; weights in brackets, "(red:1.3)", and LoRAs on the text encoder keep working.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vilex.checks import text
from vilex.encoder import ViLexEncoder, load_encoder
from vilex.errors import InputError
from vilex.hub.folder import file_hash
from vilex.tokens import SUFFIX, load_tokens, save_tokens

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


class LoadTokens:
    """Tokens of `vilex encode`, or a word of textual inversion: one image's, or all of a file as a batch."""

    CATEGORY, FUNCTION, RETURN_TYPES = CATEGORY, "load", ("VILEX_TOKENS",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        file, name = ("STRING", {"default": "tokens.safetensors"}), ("STRING", {"default": ""})
        return {"required": {"file": file, "name": name}}

    def load(self, file: str, name: str) -> tuple[Tensor]:
        """name: of one image in the file; all of them if empty, [B, n, d].

        Raises:
            InputError: the file cannot be read, has no such image, or images of several numbers of tokens.
        """
        found = load_tokens(file).tokens
        if name and name not in found:
            raise InputError(f"{file}: holds no image '{name}', only {', '.join(found)}")
        chosen = [found[name]] if name else list(found.values())
        if len(counts := {len(tokens) for tokens in chosen}) > 1:
            numbers = " and ".join(map(str, sorted(counts)))
            raise InputError(f"{file}: images of {numbers} tokens make no batch; name one of {', '.join(found)}")
        return (torch.stack(chosen),)

    @classmethod
    def IS_CHANGED(cls, file: str, name: str) -> str:
        return f"{file_hash(file) if os.path.isfile(file) else ''}#{name}"


class SaveTokens:
    """Tokens as a file that every vilex command and LoadTokens read; a batch's pictures are numbered."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = CATEGORY, "save", (), True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        file, name = ("STRING", {"default": "tokens.safetensors"}), ("STRING", {"default": "image"})
        return {"required": {"tokens": ("VILEX_TOKENS",), "file": file, "name": name}}

    def save(self, tokens: Tensor, file: str, name: str) -> dict[str, Any]:
        """Write tokens [B, n, d] into ComfyUI's output folder: a graph may be anybody's, and writes nowhere else.

        Raises:
            InputError: the file's name is none, lies outside, is there already, or cannot be written.
        """
        folder = output_folder()
        path = (folder / text(file, "file")).resolve()
        if not path.is_relative_to(folder) or path.suffix != SUFFIX:
            raise InputError(f"{file}: expected a name that ends in {SUFFIX}, in the output folder")
        if path.exists():
            raise InputError(f"{file}: exists; give another name")
        names = [name] if len(tokens) == 1 else [f"{name}-{i:03d}" for i in range(len(tokens))]
        save_tokens(path, dict(zip(names, tokens, strict=True)), {})
        return {"ui": {"text": [f"{len(names)} image(s) -> {file}"]}}


def output_folder() -> Path:
    """ComfyUI's, or the current one where this runs without it."""
    try:
        import folder_paths
    except ModuleNotFoundError:
        return Path.cwd()
    return Path(folder_paths.get_output_directory()).resolve()


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


NODE_CLASS_MAPPINGS = {
    "LoadViLex": LoadViLex,
    "ViLexEncodeImage": EncodeImage,
    "ViLexLoadTokens": LoadTokens,
    "ViLexSaveTokens": SaveTokens,
    "ViLexComposePrompt": ComposePrompt,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "LoadViLex": "Load ViLex encoder",
    "ViLexEncodeImage": "ViLex: image to tokens",
    "ViLexLoadTokens": "ViLex: load tokens",
    "ViLexSaveTokens": "ViLex: save tokens",
    "ViLexComposePrompt": "ViLex: words and images",
}
