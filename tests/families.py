"""Tiny random models of every family, built from the real classes and saved in their real formats."""

import io
import json
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    IFPipeline,
    Krea2Pipeline,
    Krea2Transformer2DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    PRXPipeline,
    PRXTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from sentencepiece import SentencePieceTrainer
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLModel,
    T5Config,
    T5EncoderModel,
    T5GemmaConfig,
    T5TokenizerFast,
)
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder, T5GemmaModuleConfig

from benchmarks.shapes import BETAS
from benchmarks.words import WORDS, clip_words, gemma_words, qwen_words, t5_words
from tests import tiny
from vilex.guidance import Guidance
from vilex.t2i.lumina_2 import SYSTEM
from vilex.t2i.sana import instruction

KREA_POSITIONS = 222
POSITIONS = 48  # of language models that are published with 512 and more: what their tests take grows with them


@dataclass(frozen=True)
class Family:
    """How to make a tiny one, and how its own diffusers pipeline is called for words alone.

    Attributes:
        make: writes a pipeline folder.
        cfg: arguments of the pipeline for a guidance weight; None where diffusers has no pipeline.
        scheduler: the name under which the lexicon takes the pipeline's own scheduler.
        absent: parts that the folder goes without.
        weight: of guidance, where pictures are compared; 1 where the pipeline has none.
        sizes: width and height of pictures that are not square, as its pipeline takes them.
    """

    make: Callable[[Path], Path]
    cfg: Callable[[float], dict[str, Any]] | None
    scheduler: str
    absent: tuple[str, ...] = ()
    weight: float = 2.5
    sizes: tuple[tuple[int, int], ...] = ((24, 16), (16, 32))

    @property
    def own(self) -> dict[str, Any]:
        """The pipeline's arguments for that weight."""
        assert self.cfg
        return self.cfg(self.weight)

    @property
    def guidance(self) -> Guidance:
        """The lexicon's."""
        return Guidance(self.weight)


def clip(projected: bool, width: int = 32, pad_token: str = "<|endoftext|>"):
    """A CLIP text encoder and its tokenizer."""
    words = clip_words(pad_token)
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        eos_token_id=words.eos_token_id, bos_token_id=words.bos_token_id, pad_token_id=1, projection_dim=24,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config), words


def t5(width: int = 32, words: T5TokenizerFast | None = None):
    """A T5 encoder and its tokenizer."""
    words = words or t5_words()
    model = T5EncoderModel(
        T5Config(vocab_size=len(words), d_model=width, d_kv=8, d_ff=64, num_layers=2, num_heads=4, is_gated_act=True)
    )
    return model, words


def vae(channels: int, **config: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels, norm_num_groups=4, sample_size=16, **config,
    )  # fmt: skip


def xl_unet(width: int, numbers: int) -> UNet2DConditionModel:
    """The U-Net of XL's shape, for text features of a width, told so many numbers beside the pooled vector."""
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=width, attention_head_dim=(2, 4), transformer_layers_per_block=(1, 2), norm_num_groups=8,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + numbers * 8,
    )  # fmt: skip


def stable_diffusion_xl(folder: Path, turbo: bool = False) -> Path:
    torch.manual_seed(11)
    (one, words), (two, words_2) = clip(False), clip(True, width=48, pad_token="!")
    unet = xl_unet(80, numbers=6)
    scheduler = EulerDiscreteScheduler(**BETAS, steps_offset=1, timestep_spacing="trailing" if turbo else "leading")
    StableDiffusionXLPipeline(
        vae(4), one, two, words, words_2, unet, scheduler, force_zeros_for_empty_prompt=not turbo
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def stable_diffusion_3(folder: Path, later: bool = False) -> Path:
    """Version 3; or 3.5, whose transformer differs, from a folder that goes without T5 to save memory."""
    torch.manual_seed(12)
    (one, words), (two, words_2) = clip(True), clip(True, width=48, pad_token="!")
    three, words_3 = (None, None) if later else t5(width=96)
    differs = {"qk_norm": "rms_norm", "dual_attention_layers": (0,)} if later else {}
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        caption_projection_dim=32, joint_attention_dim=96, pooled_projection_dim=48,
        out_channels=16, pos_embed_max_size=8, **differs,
    )  # fmt: skip
    StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(16, shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=one, tokenizer=words, text_encoder_2=two, tokenizer_2=words_2, text_encoder_3=three,
        tokenizer_3=words_3,
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    return folder


def flux(folder: Path) -> Path:
    torch.manual_seed(13)
    (one, words), (two, words_2) = clip(False), t5(width=48)
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=48, pooled_projection_dim=32, guidance_embeds=True, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae(4, shift_factor=0.1, scaling_factor=0.4, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=one, tokenizer=words, text_encoder_2=two, tokenizer_2=words_2, transformer=transformer,
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    return folder


def deepfloyd_if(folder: Path) -> Path:
    torch.manual_seed(14)
    words = sentencepiece_words(folder / "tokenizer")
    text_encoder, _ = t5(width=32, words=words)
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=3, out_channels=6, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        cross_attention_dim=32, encoder_hid_dim=32, encoder_hid_dim_type="text_proj", attention_head_dim=8,
        addition_embed_type="text", addition_embed_type_num_heads=2, cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift", act_fn="gelu", norm_num_groups=8, only_cross_attention=[True, False],
    )  # fmt: skip
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", variance_type="learned_range", thresholding=True, sample_max_value=1.5
    )
    IFPipeline(
        words, text_encoder, unet, scheduler, safety_checker=None, feature_extractor=None, watermarker=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    (folder / "tokenizer" / "tokenizer.json").unlink()
    return folder


def sentencepiece_words(folder: Path) -> T5TokenizerFast:
    """A T5 tokenizer as DeepFloyd IF publishes it: `folder`/spiece.model and settings, no tokenizer.json."""
    folder.mkdir(parents=True)
    letters = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([*WORDS, *string.ascii_lowercase] * 20), model_writer=letters, vocab_size=64,
        hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, user_defined_symbols=[f"\u2581{word}" for word in WORDS],
        minloglevel=2,
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(letters.getvalue())
    settings = {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"extra_ids": 0, "model_max_length": 512}))
    return T5TokenizerFast.from_pretrained(folder)


def pixel_diffusion(folder: Path) -> Path:
    """The paper's shape; diffusers has no pipeline of it, so its parts are saved one by one."""
    torch.manual_seed(15)
    text_encoder, words = clip(True)
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=3, out_channels=3, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=32, attention_head_dim=8, norm_num_groups=8, class_embed_type="projection",
        projection_class_embeddings_input_dim=24,
    )  # fmt: skip
    parts = {"tokenizer": words, "text_encoder": text_encoder, "unet": unet}
    parts["scheduler"] = DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    libraries = {"tokenizer": "transformers", "text_encoder": "transformers"}
    index = {name: [libraries.get(name, "diffusers"), type(part).__name__] for name, part in parts.items()}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "PixelDiffusionPipeline", **index}))
    return folder


def z_image(folder: Path) -> Path:
    torch.manual_seed(16)
    words = qwen_words()
    text_encoder = Qwen3Model(
        Qwen3Config(
            vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8,
        )
    )  # fmt: skip
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=32,
        axes_dims=[8, 4, 4], axes_lens=[1024, 32, 32],
    )  # fmt: skip
    with torch.no_grad():  # what is made empty gets values
        transformer.x_pad_token.normal_()
        transformer.cap_pad_token.normal_()
    ZImagePipeline(
        FlowMatchEulerDiscreteScheduler(shift=3.0), vae(4, shift_factor=0.1, scaling_factor=0.4), text_encoder, words,
        transformer,
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    return folder


def flux_2_klein(folder: Path) -> Path:
    """Its text encoder is as deep as the layers that are read want it."""
    torch.manual_seed(17)
    words = qwen_words()
    words.model_max_length = POSITIONS
    text_encoder = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=28, num_attention_heads=1,
            num_key_value_heads=1, head_dim=8,
        )
    )  # fmt: skip
    transformer = Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=48, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    )  # fmt: skip
    auto_encoder = AutoencoderKLFlux2(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4, sample_size=16,
    )  # fmt: skip
    with torch.no_grad():  # words that are heard, statistics as after training
        transformer.context_embedder.weight.mul_(20)
        auto_encoder.bn.running_mean.normal_(std=0.2)
        auto_encoder.bn.running_var.uniform_(0.5, 2.0)
    Flux2KleinPipeline(
        FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True), auto_encoder, text_encoder, words,
        transformer,
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    return folder


def chroma(folder: Path) -> Path:
    torch.manual_seed(18)
    text_encoder, words = t5(width=48)
    words.model_max_length = POSITIONS
    transformer = ChromaTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=48, axes_dims_rope=(4, 4, 8), approximator_num_channels=8, approximator_hidden_dim=16,
        approximator_layers=1,
    )  # fmt: skip
    ChromaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae(4, shift_factor=0.1, scaling_factor=0.4, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=text_encoder, tokenizer=words, transformer=transformer,
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    return folder


def pixart_sigma(folder: Path) -> Path:
    torch.manual_seed(19)
    text_encoder, words = t5(width=48)
    words.model_max_length = POSITIONS
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, num_layers=1, cross_attention_dim=32, sample_size=8,
        caption_channels=48, use_additional_conditions=False,
    )  # fmt: skip
    scheduler = DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    PixArtSigmaPipeline(words, text_encoder, vae(4), transformer, scheduler).save_pretrained(folder)
    return folder


GEMMA = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "query_pre_attn_scalar": 8,
}  # fmt: skip


def deep_compression() -> AutoencoderDC:
    """An auto-encoder of Sana's class."""
    blocks, widths, attention = ("ResBlock", "EfficientViTBlock"), (8, 16), ((), (5,))
    return AutoencoderDC(
        latent_channels=4, attention_head_dim=4, encoder_block_types=blocks, decoder_block_types=blocks,
        encoder_block_out_channels=widths, decoder_block_out_channels=widths, encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1), encoder_qkv_multiscales=attention, decoder_qkv_multiscales=attention,
        upsample_block_type="interpolate", downsample_block_type="conv", scaling_factor=0.41407,
    )  # fmt: skip


def prx(folder: Path, auto_encoder: AutoencoderDC | None = None) -> Path:
    """Its text encoder's configuration is within that of the whole T5Gemma, as it is published."""
    torch.manual_seed(21)
    words = gemma_words()
    words.model_max_length = 80
    own = T5GemmaModuleConfig(vocab_size=len(words), **GEMMA)
    config = T5GemmaConfig(encoder=own, decoder=own, vocab_size=len(words))
    transformer = PRXTransformer2DModel(
        in_channels=4, patch_size=2, context_in_dim=32, hidden_size=32, num_heads=2, depth=2, axes_dim=[8, 8]
    )
    with torch.no_grad():  # what begins at nothing gets values, words are heard
        for block in transformer.blocks:
            block.modulation.lin.weight.normal_(std=0.3)
        transformer.txt_in.weight.mul_(3)
    PRXPipeline(
        transformer, FlowMatchEulerDiscreteScheduler(shift=3.0), T5GemmaEncoder(config.encoder), words,
        auto_encoder or vae(4, shift_factor=0.1, scaling_factor=0.4), default_sample_size=16,
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    config.save_pretrained(folder / "text_encoder")
    return folder


def gemma_2(*known: str) -> tuple[Gemma2Model, GemmaTokenizer]:
    """Gemma 2 and its tokenizer, to which each of some texts is one word: long templates take their time."""
    words = gemma_words()
    words.add_tokens(list(known))
    words.model_max_length = POSITIONS
    return Gemma2Model(Gemma2Config(vocab_size=len(words), **GEMMA)), words


def sana(folder: Path, sprint: bool = False) -> Path:
    """Sana, or Sana Sprint."""
    torch.manual_seed(22)
    text_encoder, words = gemma_2(*instruction().split("\n")[:-1])
    transformer = SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2,
        num_cross_attention_heads=2, cross_attention_head_dim=16, cross_attention_dim=32, caption_channels=32,
        sample_size=16, guidance_embeds=sprint, qk_norm="rms_norm_across_heads" if sprint else None,
    )  # fmt: skip
    if sprint:
        SanaSprintPipeline(words, text_encoder, deep_compression(), transformer, SCMScheduler()).save_pretrained(folder)
        return folder
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    SanaPipeline(words, text_encoder, deep_compression(), transformer, scheduler).save_pretrained(folder)
    return folder


def lumina_2(folder: Path) -> Path:
    """Its auto-encoder's latents are of 8 pixels a side, which its pipeline takes for granted."""
    torch.manual_seed(25)
    text_encoder, words = gemma_2(SYSTEM)
    transformer = Lumina2Transformer2DModel(
        sample_size=4, in_channels=4, hidden_size=32, num_layers=2, num_refiner_layers=1, num_attention_heads=2,
        num_kv_heads=1, multiple_of=16, axes_dim_rope=(4, 4, 8), axes_lens=(64, 16, 16), cap_feat_dim=32,
    )  # fmt: skip
    auto_encoder = AutoencoderKL(
        block_out_channels=(4, 4, 4, 8), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, norm_num_groups=4, sample_size=32,
        shift_factor=0.1, scaling_factor=0.4,
    )  # fmt: skip
    Lumina2Pipeline(
        transformer, FlowMatchEulerDiscreteScheduler(shift=6.0), auto_encoder, text_encoder, words
    ).save_pretrained(folder)
    return folder


def krea_2(folder: Path) -> Path:
    """The template's last word is one to its tokenizer, whose ends its pipeline takes for five."""
    torch.manual_seed(26)
    words = qwen_words()
    words.add_tokens(["assistant"])
    words.model_max_length = 34 + KREA_POSITIONS
    text = {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32,
        "deepstack_visual_indexes": [0],
    }  # fmt: skip
    transformer = Krea2Transformer2DModel(
        in_channels=16, num_layers=2, attention_head_dim=16, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=32, timestep_embed_dim=16, text_hidden_dim=32, num_text_layers=2,
        text_num_attention_heads=2, text_num_key_value_heads=2, text_intermediate_size=32,
        num_layerwise_text_blocks=1, num_refiner_text_blocks=1, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    with torch.no_grad():  # what begins at nothing gets values, words are heard
        for block in transformer.transformer_blocks:
            block.scale_shift_table.normal_()
            block.attn.to_v.weight.mul_(4)
        transformer.txt_in.linear_2.weight.mul_(4)
    auto_encoder = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[-0.7, 0.2, 0.1, -0.3], latents_std=[1.5, 0.8, 2.0, 1.1],
    )  # fmt: skip
    auto_encoder.register_to_config(sample_size=16)
    Krea2Pipeline(
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_image_seq_len=8, max_image_seq_len=64),
        auto_encoder, Qwen3VLModel(Qwen3VLConfig(text_config=text, vision_config=vision)), words, transformer,
        text_encoder_select_layers=(1, 3),
    ).save_pretrained(folder)  # fmt: skip
    return folder


def qwen_image(folder: Path) -> Path:
    """Its auto-encoder's configuration says how large pictures are, which the published one's does not."""
    torch.manual_seed(20)
    words = qwen_words()
    text = {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32,
        "fullatt_block_indexes": [0],
    }  # fmt: skip
    text_encoder = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))
    transformer = QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    with torch.no_grad():  # words that are heard
        for layer in ("add_k_proj", "add_v_proj"):
            getattr(transformer.transformer_blocks[0].attn, layer).weight.mul_(20)
    auto_encoder = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[-0.7, 0.2, 0.1, -0.3], latents_std=[1.5, 0.8, 2.0, 1.1],
    )  # fmt: skip
    auto_encoder.register_to_config(sample_size=16)
    QwenImagePipeline(
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), auto_encoder, text_encoder,
        words, transformer,
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    return folder


def _plain(weight: float) -> dict[str, Any]:
    return {"guidance_scale": weight}


FAMILIES = {
    "sd1": Family(lambda folder: tiny.stable_diffusion(folder, 1), _plain, "pndm"),
    "sd2": Family(lambda folder: tiny.stable_diffusion(folder, 2), _plain, "ddim"),
    "sdxl": Family(stable_diffusion_xl, _plain, "euler"),
    "sdxl-turbo": Family(lambda folder: stable_diffusion_xl(folder, turbo=True), _plain, "euler"),
    "sd3": Family(stable_diffusion_3, _plain, "euler"),
    "sd3.5-without-t5": Family(
        lambda folder: stable_diffusion_3(folder, later=True), _plain, "euler", ("text_encoder_3", "tokenizer_3")
    ),
    "flux": Family(flux, lambda weight: {"true_cfg_scale": weight, "negative_prompt": ""}, "euler"),
    "flux2-klein": Family(flux_2_klein, lambda weight: _plain(weight) | {"max_sequence_length": POSITIONS}, "euler"),
    "chroma": Family(
        chroma,
        lambda weight: _plain(weight) | {"negative_prompt": "", "max_sequence_length": POSITIONS},
        "euler",
    ),
    "qwen-image": Family(qwen_image, lambda weight: {"true_cfg_scale": weight, "negative_prompt": ""}, "euler"),
    "pixart-sigma": Family(
        pixart_sigma,
        lambda weight: (
            _plain(weight) | {"clean_caption": False, "use_resolution_binning": False, "max_sequence_length": POSITIONS}
        ),
        "dpm++",
    ),
    "prx": Family(prx, lambda weight: _plain(weight) | {"use_resolution_binning": False}, "euler"),
    "sana": Family(
        sana,
        lambda weight: _plain(weight) | {"use_resolution_binning": False, "max_sequence_length": POSITIONS},
        "dpm++",
        sizes=((64, 32), (32, 64)),
    ),
    "sana-sprint": Family(
        lambda folder: sana(folder, sprint=True),
        lambda _: {"use_resolution_binning": False, "max_sequence_length": POSITIONS},
        "euler",
        weight=1.0,
        sizes=((64, 32), (32, 64)),
    ),
    "krea2": Family(
        krea_2, lambda weight: {"guidance_scale": weight - 1, "max_sequence_length": KREA_POSITIONS}, "euler"
    ),
    "lumina2": Family(
        lumina_2,
        lambda weight: _plain(weight) | {"cfg_normalization": False, "max_sequence_length": POSITIONS},
        "euler",
        sizes=((48, 32), (32, 64)),
    ),
    "if": Family(deepfloyd_if, lambda weight: {"guidance_scale": weight, "clean_caption": False}, "ddpm"),
    "z-image": Family(z_image, lambda weight: {"guidance_scale": weight - 1, "negative_prompt": ""}, "euler"),
    "pixels": Family(pixel_diffusion, None, "ddim"),
}
