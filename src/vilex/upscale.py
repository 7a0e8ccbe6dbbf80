"""The stage after drawing: small pictures made large by another model, chosen by id, as the paper goes on to 512.

What a folder's model_index.json names decides how:

    StableDiffusionUpscalePipeline     4 times larger (Stable Diffusion x4 upscaler)
    IFSuperResolutionPipeline          to the model's own size (DeepFloyd IF, second stage)
    StableDiffusion(XL)Pipeline, StableDiffusionXLImg2ImgPipeline (the refiner of XL)
                                       resized to as many pixels as the model's own size has, in the
                                       picture's shape, then drawn over (image to image)

It reads the prompt's words; image tokens speak to the first model alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoPipelineForImage2Image, DiffusionPipeline
from PIL import Image

from vilex.errors import InputError
from vilex.hub.folder import read_json, resolve_base
from vilex.hub.loading import quiet_loading
from vilex.prompt import parse

FOUR_TIMES, SECOND_STAGE = "StableDiffusionUpscalePipeline", "IFSuperResolutionPipeline"
OVERDRAWN = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline")


class Upscaler:
    """A model that makes pictures larger.

    Args:
        name: folder or hub id. strength: of drawing over, 0 leaves the resized picture as it is.
    Raises:
        InputError: nothing is there, or its pipeline makes nothing larger.
    """

    def __init__(
        self,
        name: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        strength: float = 0.3,
    ):
        folder = resolve_base(name)
        self.kind, self.strength = read_json(folder / "model_index.json").get("_class_name"), strength
        if self.kind not in (FOUR_TIMES, SECOND_STAGE, *OVERDRAWN):
            known = ", ".join((FOUR_TIMES, SECOND_STAGE, *OVERDRAWN))
            raise InputError(f"{folder}: {self.kind} makes no pictures larger; expected one of {known}")
        loader = AutoPipelineForImage2Image if self.kind in OVERDRAWN else DiffusionPipeline
        with quiet_loading():
            self.pipeline = loader.from_pretrained(folder, torch_dtype=dtype, use_safetensors=True).to(device)
        self.pipeline.set_progress_bar_config(disable=True)

    def __call__(
        self, pictures: Sequence[Image.Image], prompts: Sequence[str], seed: int = 0, steps: int = 30
    ) -> list[Image.Image]:
        """Each picture made larger; picture i begins from seed + i.

        Args:
            prompts: one for each picture, images in them left out.
        Raises:
            InputError: a picture is not square, and the model draws squares alone.
        """
        return [
            self.pipeline(
                prompt=parse(prompt).words, generator=torch.Generator().manual_seed(seed + i),
                num_inference_steps=steps, **self._given(picture),
            ).images[0]
            for i, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True))
        ]  # fmt: skip

    def _given(self, picture: Image.Image) -> dict[str, Any]:
        if self.kind == FOUR_TIMES:
            return {"image": picture}
        if self.kind == SECOND_STAGE:
            if picture.width != picture.height:
                shape = f"{picture.width}x{picture.height}"
                raise InputError(f"{self.kind}: makes squares larger, and this is {shape}; leave the upscaler out")
            return {"image": picture, "clean_caption": False}
        step = self.pipeline.vae_scale_factor
        scale = self.pipeline.unet.config.sample_size * step / (picture.width * picture.height) ** 0.5
        size = [max(1, round(length * scale / step)) * step for length in picture.size]
        return {"image": picture.resize((size[0], size[1]), Image.Resampling.LANCZOS), "strength": self.strength}
