import json
import shutil

import pytest
import torch

from vilex.errors import InputError
from vilex.hub.folder import check_fingerprint, fingerprint, resolve
from vilex.t2i import Condition, load_t2i


@pytest.mark.parametrize("version", [1, 2])
def test_own_vectors_change_nothing(sd_folder, version):
    t2i = load_t2i(sd_folder[version])
    ids = t2i.tokenizer(["a cat", "dog"], padding="max_length", return_tensors="pt").input_ids
    expected = t2i.text_encoder(ids)[0]
    assert torch.allclose(t2i.encoders[0](ids, t2i.embed(ids))[0], expected, atol=1e-5)


def test_gradients_reach_embeddings_and_nothing_else(sd_folder):
    t2i = load_t2i(sd_folder[1])
    ids = t2i.tokenizer(["a cat"], padding="max_length", return_tensors="pt").input_ids
    embeddings = t2i.embed(ids).requires_grad_()
    x_t = torch.randn(1, *t2i.latent_shape)
    t2i.predict(x_t, torch.tensor([500]), Condition(t2i.encoders[0](ids, embeddings)[0])).square().mean().backward()
    assert embeddings.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for module in t2i.modules for p in module.parameters())


def test_prediction_type_and_padding_are_the_familys(sd_folder):
    one, two = load_t2i(sd_folder[1]), load_t2i(sd_folder[2])
    assert (one.prediction_type, two.prediction_type) == ("epsilon", "v_prediction")
    assert one.tokenizer.pad_token_id == one.tokenizer.eos_token_id and two.tokenizer.pad_token_id == 0
    assert one.image_size == 16 and one.latent_shape == (4, 8, 8) and one.positions == 77


def test_encode_decode_are_scaled(sd_folder):
    t2i = load_t2i(sd_folder[1])
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    x0 = t2i.encode(pixels)
    assert torch.allclose(x0, t2i.vae.encode(pixels).latent_dist.mode() * t2i.vae.config.scaling_factor)
    assert t2i.decode(x0).shape == pixels.shape


WHOLE = (
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "scheduler/scheduler_config.json",
)


@pytest.mark.parametrize("broken", WHOLE)
@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_broken_files_are_named(tmp_path, sd_folder, broken, damage):
    folder = shutil.copytree(sd_folder[1], tmp_path / "copy")
    file = folder / broken
    file.unlink() if damage == "missing" else file.write_bytes(b"{broken" * 9)
    with pytest.raises(InputError) as error:
        load_t2i(folder)
    assert broken.rsplit("/", 1)[0] in str(error.value) and "\n" not in str(error.value)


def test_pickles_are_never_read(tmp_path, sd_folder):
    folder = shutil.copytree(sd_folder[1], tmp_path / "copy")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InputError, match="pickled weights are never read"):
        load_t2i(folder)


def test_another_family_is_refused(tmp_path, sd_folder):
    folder = shutil.copytree(sd_folder[1], tmp_path / "copy")
    index = json.loads((folder / "model_index.json").read_text())
    index["unet"] = ["diffusers", "SD3Transformer2DModel"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="not supported"):
        load_t2i(folder)


def test_fingerprint_finds_other_weights(tmp_path, sd_folder):
    folder = shutil.copytree(sd_folder[1], tmp_path / "copy")
    marks = fingerprint(folder)
    assert "unet/diffusion_pytorch_model.safetensors" in marks
    check_fingerprint(folder, marks)
    with (folder / "unet/diffusion_pytorch_model.safetensors").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(InputError, match="not the weights this encoder was trained with"):
        check_fingerprint(folder, marks)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "someone/a-model-not-in-the-cache"])
def test_unknown_models_are_one_line(name):
    with pytest.raises(InputError) as error:
        resolve(name)
    assert name in str(error.value) and "\n" not in str(error.value)
