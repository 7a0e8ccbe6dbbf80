"""Checkpoints in one file are the same models as their folders; what cannot be read is one line."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import single_files
from tests.families import FAMILIES
from vilex.errors import InputError
from vilex.prompt import parse
from vilex.t2i import load_t2i


def without_weights(folder, to):
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors"))
    return to


@pytest.fixture
def configurations(sd_folder, tmp_path):
    """Stable Diffusion's folder without weights."""
    return without_weights(sd_folder[1], tmp_path / "configurations")


def same(a, b):
    return a.names == b.names and all(
        torch.equal(x, y)
        for name in a.names
        for x, y in zip(getattr(a, name).state_dict().values(), getattr(b, name).state_dict().values(), strict=True)
    )


def predicted(t2i):
    x_t = torch.randn(1, *t2i.latent_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return t2i.predict(x_t, torch.tensor([7.0]), t2i.read([parse("a cat")], [{}]))


def test_a_whole_pipeline_needs_configurations_alone(sd_folder, configurations, tmp_path):
    file = single_files.stable_diffusion_1(sd_folder[1], tmp_path / "sd.safetensors")
    assert same(load_t2i(configurations, checkpoint=file), load_t2i(sd_folder[1]))
    half = load_t2i(configurations, torch.bfloat16, checkpoint=file)
    assert {getattr(half, name).dtype for name in half.names} == {torch.bfloat16}


def test_parts_that_only_the_index_names_are_left_out(sd_folder, configurations, tmp_path):
    file = single_files.stable_diffusion_1(sd_folder[1], tmp_path / "sd.safetensors")
    index = json.loads((configurations / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (configurations / "model_index.json").write_text(json.dumps(index))
    assert same(load_t2i(configurations, checkpoint=file), load_t2i(sd_folder[1]))


def test_two_text_encoders_of_which_one_is_open_clips(tmp_path):
    base = FAMILIES["sdxl"].make(tmp_path / "xl")
    file = single_files.stable_diffusion_xl(base, tmp_path / "xl.safetensors")
    found = load_t2i(without_weights(base, tmp_path / "configurations"), checkpoint=file)
    assert same(found, load_t2i(base))


def test_what_the_file_leaves_out_comes_from_the_folder(sd_folder, configurations, tmp_path):
    file = single_files.stable_diffusion_1(sd_folder[1], tmp_path / "sd.safetensors", without=("vae",))
    assert same(load_t2i(sd_folder[1], checkpoint=file), load_t2i(sd_folder[1]))
    with pytest.raises(InputError, match=r"vae: no \.safetensors weights"):
        load_t2i(configurations, checkpoint=file)


def test_a_denoiser_alone_takes_the_place_of_the_folders(tmp_path):
    base, other = FAMILIES["flux"].make(tmp_path / "flux"), tmp_path / "other.safetensors"
    weights = load_file(base / "transformer/diffusion_pytorch_model.safetensors")
    save_file({key: value * 1.5 for key, value in weights.items()}, other)
    mine, given = load_t2i(base), load_t2i(base, checkpoint=other)
    assert torch.equal(given.network.proj_out.weight, 1.5 * mine.network.proj_out.weight)
    assert torch.equal(given.text_encoder_2.shared.weight, mine.text_encoder_2.shared.weight)
    assert load_t2i(base, quantize="int8", checkpoint=other).network.is_quantized


def test_gguf_predicts_nearly_the_same_and_gradients_flow(tmp_path):
    base = FAMILIES["flux"].make(tmp_path / "flux")
    file = single_files.as_gguf(base / "transformer", tmp_path / "flux.gguf")
    exact, near = load_t2i(base), load_t2i(base, checkpoint=file)
    assert near.sizes == exact.sizes  # numbers, not bytes
    assert 0 < (predicted(near) - predicted(exact)).norm() < 0.05 * predicted(exact).norm()
    token = torch.randn(1, near.width, requires_grad=True)
    x_t = torch.randn(1, *near.latent_shape)
    near.predict(x_t, torch.tensor([5.0]), near.read([parse("<it:1>")], [{"it": token}])).square().mean().backward()
    assert token.grad.norm() > 0


def test_what_cannot_be_read_is_one_line(sd_folder, configurations, tmp_path):
    whole = single_files.stable_diffusion_1(sd_folder[1], tmp_path / "sd.safetensors")
    state = load_file(whole)
    lost = next(key for key in state if "middle_block" in key)
    save_file({key: value for key, value in state.items() if key != lost}, tmp_path / "lost.safetensors")
    save_file({"first_stage_model.nothing": torch.zeros(1)}, tmp_path / "nothing.safetensors")
    save_file({"nothing": torch.zeros(1)}, tmp_path / "stranger.safetensors")
    for name in ("bad.safetensors", "bad.gguf", "bad.ckpt", "bad.txt"):
        (tmp_path / name).write_bytes(b"bad")
    for name, message in (
        ("none.safetensors", "no such file"),
        ("bad.safetensors", "cannot be read"),
        ("bad.gguf", "cannot be read as UNet2DConditionModel"),
        ("bad.ckpt", "pickled weights are never read"),
        ("bad.txt", "expected a file of .safetensors or .gguf"),
        ("lost.safetensors", "cannot be read as|has no weights for unet"),
        ("nothing.safetensors", "cannot be read as StableDiffusionPipeline"),
        ("stranger.safetensors", "cannot be read as UNet2DConditionModel"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            load_t2i(sd_folder[1], checkpoint=tmp_path / name)
        assert str(caught.value).startswith(f"checkpoint {tmp_path / name}")
    with pytest.raises(InputError, match="checkpoint: expected a file, got 7"):
        load_t2i(sd_folder[1], checkpoint=7)
    with pytest.raises(InputError, match=r"quantize: .* holds a whole pipeline"):
        load_t2i(configurations, quantize="int8", checkpoint=whole)
    with pytest.raises(InputError, match="cannot be read as ZImagePipeline"):
        load_t2i(FAMILIES["z-image"].make(tmp_path / "z"), checkpoint=whole)
    with pytest.raises(InputError, match="diffusers reads no PixelDiffusionPipeline from one file"):
        load_t2i(FAMILIES["pixels"].make(tmp_path / "pixels"), checkpoint=whole)
