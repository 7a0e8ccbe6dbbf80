import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from tests import tiny
from vilex.encoder import ViLexConfig, ViLexEncoder, load_encoder
from vilex.encoder.pooler import AttentionPooler
from vilex.encoder.towers import load_tower, patches_of
from vilex.errors import InputError


@pytest.mark.parametrize("kind", list(tiny.TOWERS))
def test_any_transformers_tower(tmp_path, kind):
    folder = tiny.tower(tmp_path / kind, kind)
    encoder = ViLexEncoder.from_tower(str(folder), width=24, num_tokens=7, blocks=2, heads=4)
    pixel_values = torch.randn(2, 3, 32, 32)
    output = encoder(pixel_values)
    assert output.tokens.shape == (2, 7, 24) and output.patches.shape == (2, 16, 32)
    original = load_tower(str(folder))
    assert torch.equal(output.patches, patches_of(original, pixel_values))
    encoder.save_pretrained(tmp_path / "saved")
    assert [path.suffix for path in sorted((tmp_path / "saved").iterdir())] == [".json", ".safetensors"]
    again = ViLexEncoder.from_pretrained(tmp_path / "saved")
    assert torch.equal(again(pixel_values).tokens, output.tokens)


def test_a_tower_keeps_the_normalisation_it_was_trained_with(tmp_path):
    clip = tiny.tower(tmp_path / "clip", "clip")
    by_family = ViLexEncoder.from_tower(str(clip), width=24, num_tokens=7, blocks=2, heads=4).config
    assert by_family.image_mean == (0.48145466, 0.4578275, 0.40821073)
    CLIPImageProcessorPil(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]).save_pretrained(clip)
    by_file = ViLexEncoder.from_tower(str(clip), width=24, num_tokens=7, blocks=2, heads=4).config
    assert by_file.image_mean == (0.1, 0.2, 0.3) and by_file.image_std == (0.4, 0.5, 0.6)
    given = ViLexEncoder.from_tower(str(clip), width=24, num_tokens=7, blocks=2, heads=4, image_mean=(0.0,) * 3)
    assert given.config.image_mean == (0.0,) * 3


def test_a_prefix_is_a_prefix(model_folder):
    encoder = ViLexEncoder.from_pretrained(model_folder)
    x = torch.randn(3, 3, 32, 32)
    full = encoder(x).tokens
    for n in (1, 4, 16):
        assert torch.allclose(encoder(x, n).tokens, full[:, :n], atol=1e-6)
    with pytest.raises(InputError, match="expected 1 to 75 tokens"):
        encoder(x, 76)


def test_tokens_start_at_the_vocabularys_scale(tower_folder):
    torch.manual_seed(0)
    encoder = ViLexEncoder.from_tower(str(tower_folder), width=64, num_tokens=32, blocks=5, heads=4)
    table = torch.randn(1000, 64) * 0.03 + torch.randn(64) * 0.01
    encoder.pooler.match_vocabulary(table)
    tokens = encoder(torch.randn(4, 3, 32, 32)).tokens
    ratio = tokens.norm(dim=-1).mean() / table.norm(dim=-1).mean()
    assert 0.8 < ratio < 1.25
    optimizer = torch.optim.AdamW(encoder.pooler.out.parameters(), lr=1e-3)
    for _ in range(20):
        encoder(torch.randn(4, 3, 32, 32)).tokens.norm(dim=-1).mean().neg().backward()  # even if they are pulled away
        optimizer.step()
    assert encoder(torch.randn(4, 3, 32, 32)).tokens.norm(dim=-1).mean() / table.norm(dim=-1).mean() < 1.5


@pytest.mark.parametrize(
    ("processor", "mean", "std"),
    [
        (SiglipImageProcessorPil(size={"height": 32, "width": 32}, resample=3), (0.5,) * 3, (0.5,) * 3),
        (
            CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
            (0.48145466, 0.4578275, 0.40821073),
            (0.26862954, 0.26130258, 0.27577711),
        ),
    ],
    ids=["siglip", "clip"],
)
def test_preprocess_equals_transformers_on_squares(tower_folder, processor, mean, std):
    encoder = ViLexEncoder.from_tower(str(tower_folder), width=8, num_tokens=1, heads=1, image_mean=mean, image_std=std)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8))
    expected = processor([image], return_tensors="pt").pixel_values
    assert torch.allclose(encoder.preprocess([image]), expected, atol=1e-5)


def test_unknown_tower_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown model_type 'resnext'"):
        ViLexEncoder(ViLexConfig(tower={"model_type": "resnext"}))
    with pytest.raises(InputError, match="tower"):
        load_tower(str(tmp_path))


def test_the_pooler_computes_its_equation():
    """As its module says it, written out head by head."""
    torch.manual_seed(0)
    config = ViLexConfig(width=12, num_tokens=5, blocks=2, heads=3, pooler_width=6)
    pooler, patches = AttentionPooler(config, patch_width=7), torch.randn(2, 4, 7)
    pooler.match_vocabulary(torch.randn(30, 12) * 0.02 + 0.01)
    keys, z = pooler.patch_proj(patches), pooler.queries.expand(2, -1, -1)
    for block in pooler.blocks:
        seen = block.patch_norm(keys)
        weight, bias = block.to_key_value.weight, block.to_key_value.bias
        q, k, v = block.to_query(block.query_norm(z)), seen @ weight[:6].T + bias[:6], seen @ weight[6:].T + bias[6:]
        heads = [slice(start, start + 2) for start in (0, 2, 4)]
        read = [(q[..., h] @ k[..., h].mT / 2**0.5).softmax(-1) @ v[..., h] for h in heads]
        z = z + block.out(torch.cat(read, -1))
        z = z + block.mlp(block.mlp_norm(z))
    expected = pooler.mean + pooler.std * pooler.out(pooler.norm(z))
    assert torch.allclose(pooler(patches, 5), expected, atol=1e-6)
    assert torch.allclose(pooler(patches, 3), expected[:, :3], atol=1e-6)


def test_weights_that_are_in_no_file_are_named(tmp_path):
    folder = tiny.tower(tmp_path / "tower", "siglip")
    encoder = ViLexEncoder.from_tower(str(folder), width=24, num_tokens=7, blocks=2, heads=4)
    encoder.save_pretrained(tmp_path / "encoder")
    for place, lost in ((tmp_path / "encoder", "pooler.queries"), (folder, "layers.1.mlp.fc1.weight")):
        weights = load_file(place / "model.safetensors")
        kept = {name: value for name, value in weights.items() if not name.endswith(lost)}
        save_file(kept, place / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"encoder: has no weights for pooler.queries; fetch it again"):
        load_encoder(tmp_path / "encoder")
    with pytest.raises(InputError, match=r"has no weights for .*layers.1.mlp.fc1.weight; fetch it again"):
        load_tower(str(folder))


@pytest.mark.parametrize("kind", ["siglip", "clip"])
def test_the_vision_part_of_a_whole_model(tmp_path, kind):
    """As SigLIP and CLIP are published: one model of text and vision."""
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    seen, text = {**small, "image_size": 32, "patch_size": 8}, {**small, "vocab_size": 99}
    if kind == "siglip":
        whole = SiglipModel(SiglipConfig(text_config=text, vision_config=seen))
    else:
        whole = CLIPModel(CLIPConfig(text_config=text, vision_config=seen))
    whole.save_pretrained(tmp_path)
    tower, pixels = load_tower(str(tmp_path)), torch.randn(1, 3, 32, 32)
    assert torch.equal(tower(pixels).last_hidden_state, whole.eval().vision_model(pixels).last_hidden_state)
    encoder = ViLexEncoder.from_tower(str(tmp_path), width=24, num_tokens=7, blocks=2, heads=4).eval()
    assert torch.equal(patches_of(encoder.tower, pixels), patches_of(tower, pixels))
