import json

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    IFSuperResolutionPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionUpscalePipeline,
    StableDiffusionXLImg2ImgPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from typer.testing import CliRunner

from benchmarks.shapes import BETAS
from tests import families
from tests.drawings import same
from vilex.cli.app import app
from vilex.errors import InputError
from vilex.upscale import Upscaler


@pytest.fixture(scope="module")
def four_times(tmp_path_factory):
    """A tiny Stable Diffusion x4 upscaler; its auto-encoder has a factor of 4, as the real one's."""
    torch.manual_seed(21)
    text_encoder, words = families.clip(False)
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=7, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32, attention_head_dim=4, norm_num_groups=8, num_class_embeds=100,
        only_cross_attention=(True, False),
    )  # fmt: skip
    autoencoder = families.vae(4, scaling_factor=0.5)
    autoencoder = type(autoencoder)(
        block_out_channels=(8, 8, 16), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=4, norm_num_groups=4,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("x4")
    StableDiffusionUpscalePipeline(
        autoencoder, text_encoder, words, unet, DDPMScheduler(**BETAS),
        DDIMScheduler(**BETAS, prediction_type="v_prediction"), max_noise_level=50,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def test_four_times_larger_as_diffusers_own(four_times, pictures):
    small = [picture.resize((16, 16)) for picture in pictures[:2]]
    larger = Upscaler(four_times)(small, ["a cat <cat:4>", "snow"], seed=3, steps=2)
    assert [picture.size for picture in larger] == [(64, 64)] * 2
    pipeline = StableDiffusionUpscalePipeline.from_pretrained(four_times)
    expected = pipeline("snow", small[1], num_inference_steps=2, generator=torch.Generator().manual_seed(4)).images[0]
    assert same(larger[1], expected)


def test_second_stage_of_if(tmp_path, pictures):
    torch.manual_seed(22)
    text_encoder, words = families.t5()
    unet = UNet2DConditionModel(
        sample_size=32, in_channels=6, out_channels=6, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), cross_attention_dim=32,
        encoder_hid_dim=32, encoder_hid_dim_type="text_proj", attention_head_dim=8, addition_embed_type="text",
        addition_embed_type_num_heads=2, cross_attention_norm="group_norm", resnet_time_scale_shift="scale_shift",
        act_fn="gelu", norm_num_groups=8, class_embed_type="timestep", only_cross_attention=(True, False),
    )  # fmt: skip
    IFSuperResolutionPipeline(
        words, text_encoder, unet, DDPMScheduler(variance_type="learned_range"), DDPMScheduler(), None, None, None,
        requires_safety_checker=False,
    ).save_pretrained(tmp_path)  # fmt: skip
    (larger,) = Upscaler(tmp_path)([pictures[0].resize((16, 16))], ["a cat"], steps=2)
    assert larger.size == (32, 32)
    with pytest.raises(InputError, match="makes squares larger, and this is 16x8; leave the upscaler out"):
        Upscaler(tmp_path)([pictures[0].resize((16, 8))], ["a cat"], steps=2)


def test_pictures_that_are_not_square_stay_so(sd_folder, pictures):
    (larger,) = Upscaler(sd_folder[1])([pictures[0].resize((16, 4))], ["a cat"], steps=4)
    assert larger.size == (32, 8)  # as many pixels as 16 x 16 are


def test_drawn_over_at_the_models_own_size(sd_folder, pictures):
    small = pictures[0].resize((8, 8))
    (larger,) = Upscaler(sd_folder[2], strength=0.6)([small], ["a cat"], seed=5, steps=4)
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(sd_folder[2], safety_checker=None)
    resized = small.resize((16, 16), Image.Resampling.LANCZOS)
    expected = pipeline(
        "a cat", resized, strength=0.6, num_inference_steps=4, generator=torch.Generator().manual_seed(5)
    ).images[0]
    assert larger.size == (16, 16) and same(larger, expected)


def test_from_the_command_line(four_times, model_folder, tmp_path):
    out = tmp_path / "out"
    words = ["generate", "a cat", "--model", str(model_folder), "-o", str(out), "--steps", "2", "--upscale"]
    said = CliRunner().invoke(app, [*words, str(four_times), "--json"])
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["upscale"] == str(four_times)
    assert Image.open(out / "000.png").size == (64, 64)


def test_reconstructions_made_larger(four_times, model_folder, pictures, tmp_path):
    pictures[0].save(tmp_path / "it.png")
    words = ["reconstruct", str(tmp_path / "it.png"), "--model", str(model_folder), "-o", str(tmp_path / "out")]
    counts = ["--tokens", "1,4", "--num-images", "2", "--steps", "2", "--upscale", str(four_times)]
    said = CliRunner().invoke(app, [*words, *counts])
    assert said.exit_code == 0, said.output
    assert Image.open(tmp_path / "out" / "it-04-1.png").size == (64, 64)


def test_the_refiner_of_xl_draws_over(tmp_path, pictures):
    torch.manual_seed(23)
    text_encoder, words = families.clip(True, width=48)
    unet = families.xl_unet(48, numbers=5)
    refiner = StableDiffusionXLImg2ImgPipeline(
        families.vae(4), None, text_encoder, None, words, unet, EulerDiscreteScheduler(**BETAS),
        requires_aesthetics_score=True,
    )  # fmt: skip
    refiner.save_pretrained(tmp_path)
    (larger,) = Upscaler(tmp_path, strength=0.5)([pictures[0].resize((8, 8))], ["a cat"], seed=5, steps=4)
    resized = pictures[0].resize((8, 8)).resize((16, 16), Image.Resampling.LANCZOS)
    expected = refiner(
        "a cat", image=resized, strength=0.5, num_inference_steps=4, generator=torch.Generator().manual_seed(5)
    ).images[0]
    assert same(larger, expected)


def test_what_makes_nothing_larger_is_named(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(InputError, match="FluxPipeline makes no pictures larger"):
        Upscaler(tmp_path)
