"""Encoding against the bare tower, generating against diffusers' own pipeline."""

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

from vilex.encoder import EMBEDDED
from vilex.encoder.towers import patches_of
from vilex.guidance import Guidance
from vilex.lexicon import VisualLexicon

IMAGES = 32


def encode_pair(lexicon: VisualLexicon):
    size = lexicon.encoder.config.image_size
    pixel_values = torch.randn(IMAGES, 3, size, size)

    @torch.inference_mode()
    def ours():
        lexicon.encoder(pixel_values)

    @torch.inference_mode()
    def bare_tower():
        patches_of(lexicon.encoder.tower, pixel_values)

    return ours, bare_tower


def generate_pair(lexicon: VisualLexicon):
    pipeline = StableDiffusionPipeline.from_pretrained(
        EMBEDDED["nano"] / "t2i", dtype=torch.float32, safety_checker=None
    )
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)

    def ours():
        lexicon.generate("a cat in the snow", guidance=Guidance(3.0), num_images=4, steps=10)

    def diffusers():
        seeds = [torch.Generator().manual_seed(seed) for seed in range(4)]
        pipeline(
            "a cat in the snow", guidance_scale=3.0, num_images_per_prompt=4, num_inference_steps=10, generator=seeds
        )

    return ours, diffusers
