"""Checkpoints in one file, as web interfaces keep them, made of diffusers' folders."""

import re

import gguf
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

UNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
        "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}  # fmt: skip
UNET_ENDS = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
             "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
             "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}  # fmt: skip
OPEN_CLIP = (
    (r"^text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^text_model\.embeddings\.", ""), (r"^text_model\.final_layer_norm", "ln_final"),
    (r"^text_model\.encoder\.layers", "transformer.resblocks"), (r"layer_norm(\d)", r"ln_\1"),
    (r"\.fc1\.", ".c_fc."), (r"\.fc2\.", ".c_proj."), (r"\.self_attn\.q_proj\.(\w+)", r".attn.in_proj_\1"),
    (r"\.self_attn\.", ".attn."), (r"^text_projection\.weight", "text_projection"),
)  # fmt: skip
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_name(key, layers, attentive):
    """A U-Net's weight by its name in latent-diffusion files; `attentive`: which up blocks have attention."""
    for ours, theirs in UNET_ENDS.items():
        if key.startswith(f"{ours}."):
            return key.replace(ours, theirs, 1)
    side, rest = key.split("_block", 1)
    if side == "mid":
        kind, number, tail = re.fullmatch(r"\.(resnets|attentions)\.(\d)\.(.*)", rest).groups()
        place = f"middle_block.{2 * int(number) if kind == 'resnets' else 1}"
        return f"{place}.{renamed(tail) if kind == 'resnets' else tail}"
    block, kind, number, tail = re.fullmatch(r"s\.(\d)\.(\w+)\.(\d)\.(.*)", rest).groups()
    block, number = int(block), int(number)
    head, first = ("input_blocks", 1) if side == "down" else ("output_blocks", 0)
    if kind == "downsamplers":
        return f"{head}.{first + block * (layers + 1) + layers}.0.{tail.replace('conv', 'op')}"
    if kind == "upsamplers":
        return f"{head}.{block * (layers + 1) + layers}.{2 if attentive[block] else 1}.{tail}"
    place = f"{head}.{first + block * (layers + 1) + number}"
    return f"{place}.0.{renamed(tail)}" if kind == "resnets" else f"{place}.1.{tail}"


def renamed(tail):
    for ours, theirs in UNET.items():
        tail = tail.replace(ours, theirs)
    return tail


def vae_entry(key, value, blocks):
    """An auto-encoder's weight by its name in latent-diffusion files; attention's matrices are convolutions there."""
    if ".attentions.0." in key:
        for ours, theirs in VAE_ATTENTION.items():
            key = key.replace(f".{ours}.", f".{theirs}.")
        key = key.replace("mid_block.attentions.0", "mid.attn_1")
        return key, value[..., None, None] if value.ndim == 2 else value
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", key)
    key = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", key)
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
    key = re.sub(r"up_blocks\.(\d)\.resnets", lambda found: f"up.{blocks - 1 - int(found[1])}.block", key)
    key = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{blocks - 1 - int(found[1])}.upsample", key)
    return key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut"), value


def open_clip(state, width):
    """CLIP's text encoder by its names in open_clip: queries, keys and values in one matrix."""
    found = {}
    for key, value in state.items():
        if ".k_proj." in key or ".v_proj." in key:
            continue
        if ".q_proj." in key:
            value = torch.cat([value, *(state[key.replace("q_proj", one)] for one in ("k_proj", "v_proj"))])
            assert len(value) == 3 * width
        for pattern, name in OPEN_CLIP:
            key = re.sub(pattern, name, key)
        found[key] = value.T if key == "text_projection" else value
    return found


def unet_entries(folder):
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    attentive = ["CrossAttn" in kind for kind in unet.config.up_block_types]
    return {
        f"model.diffusion_model.{unet_name(key, unet.config.layers_per_block, attentive)}": value
        for key, value in unet.state_dict().items()
    }


def vae_entries(folder):
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    entries = (vae_entry(*item, len(vae.config.up_block_types)) for item in vae.state_dict().items())
    return {f"first_stage_model.{key}": value for key, value in entries}


def clip_entries(folder, prefix):
    text = CLIPTextModel.from_pretrained(folder / "text_encoder")
    return {f"{prefix}text_model.{key.removeprefix('text_model.')}": value for key, value in text.state_dict().items()}


def stable_diffusion_1(folder, path, without=()):
    """A whole pipeline in one file; `without`: parts that are left out."""
    state = unet_entries(folder)
    if "vae" not in without:
        state |= vae_entries(folder)
    if "text_encoder" not in without:
        state |= clip_entries(folder, "cond_stage_model.transformer.")
    return written(state, path)


def stable_diffusion_xl(folder, path):
    """A whole pipeline in one file, its second text encoder as open_clip names it."""
    second = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2")
    state = unet_entries(folder) | vae_entries(folder) | clip_entries(folder, "conditioner.embedders.0.transformer.")
    named = open_clip(second.state_dict(), second.config.hidden_size)
    return written(state | {f"conditioner.embedders.1.model.{key}": value for key, value in named.items()}, path)


def written(state, path):
    save_file({key: value.clone().contiguous() for key, value in state.items()}, path)
    return path


def as_gguf(folder, path, kind=gguf.GGMLQuantizationType.Q8_0):
    """A denoiser's folder as a GGUF file: matrices in blocks of few bits where their rows allow it, else in float32."""
    writer = gguf.GGUFWriter(path, arch="vilex")
    for name, value in load_file(folder / "diffusion_pytorch_model.safetensors").items():
        array = value.to(torch.float32).numpy()
        fits = value.ndim == 2 and value.shape[1] % gguf.GGML_QUANT_SIZES[kind][0] == 0
        if fits:
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
