"""Folders with the published models' configurations and no weights: what a plan needs."""

import json
from pathlib import Path

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, SiglipVisionConfig

from tests import tiny

TEXT = {  # Stable Diffusion 1.x: CLIP ViT-L/14; 2.x: OpenCLIP ViT-H/14 less its last layer
    1: {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    2: {"hidden_size": 1024, "num_hidden_layers": 23, "num_attention_heads": 16, "intermediate_size": 4096},
}
UNET = {
    1: {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    2: {
        "sample_size": 96,
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
    },
}
VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
TOWERS = {
    "google/siglip-so400m-patch14-224": (1152, 27, 4304, 16, 14),
    "google/siglip-base-patch16-224": (768, 12, 3072, 12, 16),
}


def stable_diffusion(folder: Path, version: int) -> Path:
    """Stable Diffusion 1.5 or 2.1 in diffusers format, without its weights."""
    tiny.tokenizer("<|endoftext|>" if version == 1 else "!").save_pretrained(folder / "tokenizer")
    CLIPTextConfig(vocab_size=49_408, projection_dim=768, **TEXT[version]).save_pretrained(folder / "text_encoder")
    prediction = "epsilon" if version == 1 else "v_prediction"
    parts = {
        "unet": {"_class_name": UNet2DConditionModel.__name__, **UNET[version]},
        "vae": {"_class_name": AutoencoderKL.__name__, **VAE},
        "scheduler": {"_class_name": "DDIMScheduler", **tiny.BETAS, "prediction_type": prediction},
    }
    for name, content in parts.items():
        (folder / name).mkdir()
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        (folder / name / file).write_text(json.dumps(content))
    index = {
        "_class_name": "StableDiffusionPipeline",
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def tower(folder: Path, name: str) -> Path:
    """A SigLIP vision tower's configuration."""
    width, layers, hidden, heads, patch = TOWERS[name]
    SiglipVisionConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        intermediate_size=hidden,
        num_attention_heads=heads,
        patch_size=patch,
        image_size=224,
    ).save_pretrained(folder)
    return folder
