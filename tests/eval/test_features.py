import sys

import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

from vilex.errors import InputError
from vilex.eval.features import features_of, load_extractor


def test_lite0s_features_of_a_picture_do_not_depend_on_the_batch(pictures):
    extractor = load_extractor("lite0")
    found = features_of(pictures, extractor, batch=3)
    assert found.vectors.shape == (8, 1280) and found.logits.shape == (8, 1000)
    assert torch.allclose(found.vectors[5], features_of(pictures[5:6], extractor).vectors[0], atol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_hub_vision_transformers_give_their_class_token(kind, tmp_path, pictures):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    model = ViTModel(ViTConfig(**sizes)) if kind == "vit" else Dinov2Model(Dinov2Config(**sizes))
    model.eval().save_pretrained(tmp_path)
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path)
    found = features_of(pictures, load_extractor(str(tmp_path)))
    with torch.no_grad():
        expected = model(**processor(images=pictures, return_tensors="pt")).last_hidden_state[:, 0]
    assert torch.allclose(found.vectors, expected, atol=1e-5) and found.logits is None


def test_hub_clip_gives_its_image_embedding(tmp_path, pictures):
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**small, "vocab_size": 50}, vision_config={**small, "image_size": 32, "patch_size": 8}
    )
    model = CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)
    processor.save_pretrained(tmp_path)
    found = features_of(pictures, load_extractor(str(tmp_path)))
    with torch.no_grad():
        vision = model.vision_model(**processor(images=pictures, return_tensors="pt")).pooler_output
        expected = model.visual_projection(vision)
    assert torch.allclose(found.vectors, expected, atol=1e-5)


def test_what_is_not_there_is_said(monkeypatch, tmp_path):
    for name in ("torch_fidelity", "efficientnet_lite_pytorch"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r'pip install "vilex\[inception\]"'):
        load_extractor("inception")
    with pytest.raises(InputError, match=r'pip install "vilex\[eval\]"'):
        load_extractor("lite0")
    with pytest.raises(InputError, match="no-such-model"):
        load_extractor(str(tmp_path / "no-such-model"))
