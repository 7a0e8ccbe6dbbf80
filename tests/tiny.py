"""Tiny random models of the real classes, saved in the real formats; they run in milliseconds."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from benchmarks.shapes import BETAS
from benchmarks.words import clip_words


def stable_diffusion(folder: Path, version: int = 1) -> Path:
    """A pipeline folder like SD 1.x (eps, pads with EOS) or SD 2.x (v, pads with "!", linear projections)."""
    torch.manual_seed(version)
    words = clip_words("<|endoftext|>" if version == 1 else "!")
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            eos_token_id=2 if version == 1 else words.eos_token_id,
            bos_token_id=words.bos_token_id,
            pad_token_id=1,
            hidden_act="quick_gelu" if version == 1 else "gelu",
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
        use_linear_projection=version == 2,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )
    scheduler = (
        PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
        if version == 1
        else DDIMScheduler(**BETAS, prediction_type="v_prediction", steps_offset=1, clip_sample=False)
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=words,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
TOWERS = {
    "siglip": lambda: SiglipVisionModel(SiglipVisionConfig(**_SMALL, intermediate_size=64)),
    "clip": lambda: CLIPVisionModel(CLIPVisionConfig(**_SMALL, intermediate_size=64)),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**_SMALL, mlp_ratio=2)),
}


def tower(folder: Path, kind: str = "siglip") -> Path:
    torch.manual_seed(3)
    TOWERS[kind]().save_pretrained(folder, safe_serialization=True)
    return folder


def drilled(folder: Path, source: Path, pixels: torch.Tensor, words: list[str], steps: int = 400) -> Path:
    """A frozen model with something to say: `source`'s U-Net, drilled on a few pictures by one word each."""
    torch.manual_seed(0)
    pipeline = StableDiffusionPipeline.from_pretrained(source, safety_checker=None)
    latents = pipeline.vae.encode(pixels).latent_dist.mode().detach()
    pipeline.vae.register_to_config(scaling_factor=1 / latents.std().item())
    latents = latents / latents.std()
    ids = pipeline.tokenizer(words, padding="max_length", return_tensors="pt").input_ids
    context = pipeline.text_encoder(ids)[0].detach()
    schedule = DDPMScheduler(**BETAS, prediction_type="v_prediction")
    optimizer = torch.optim.AdamW(pipeline.unet.parameters(), lr=3e-3)
    for _ in range(steps):
        noise = torch.randn_like(latents)
        t = torch.randint(0, 1000, (len(latents),))
        v = pipeline.unet(schedule.add_noise(latents, noise, t), t, context).sample
        loss = (v - schedule.get_velocity(latents, noise, t)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder
