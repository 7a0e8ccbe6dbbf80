from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DiffusionPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image

import vilex.pipelines
from tests import families
from vilex.baselines.dreambooth import add_adapter, save_adapter
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.lexicon import VisualLexicon
from vilex.t2i import load_t2i

FILES = Path(vilex.pipelines.__file__).parent


@pytest.fixture(scope="module")
def bases(tmp_path_factory, sd_folder):
    return {
        "stable_diffusion": sd_folder[2],
        "stable_diffusion_xl": families.stable_diffusion_xl(tmp_path_factory.mktemp("base") / "xl"),
    }


@pytest.fixture(params=["stable_diffusion", "stable_diffusion_xl"])
def loaded(request, bases, tower_folder, tmp_path):
    """The custom pipeline, and the lexicon of the same parts."""
    base = bases[request.param]
    lexicon = VisualLexicon.from_pretrained(encoder_for(base, tower_folder, tmp_path))
    pipeline = DiffusionPipeline.from_pretrained(
        base, custom_pipeline=str(FILES / f"{request.param}.py"), trust_remote_code=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.load_vilex(tmp_path / "encoder"), lexicon


def encoder_for(base, tower, folder):
    t2i = load_t2i(base)
    torch.manual_seed(5)
    encoder = ViLexEncoder.from_tower(
        str(tower), width=t2i.width, num_tokens=8, blocks=1, heads=1, base_model=str(base)
    )
    encoder.pooler.match_vocabulary(*t2i.lookups)
    encoder.save_pretrained(folder / "encoder")
    return folder / "encoder"


def same(a, b):
    return np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max() <= 1


def test_callbacks_and_latents(loaded, pictures):
    pipeline, lexicon = loaded
    how, steps_seen = {"height": lexicon.t2i.image_size, "width": lexicon.t2i.image_size}, []
    latents = pipeline(
        "<cat:4> in snow", {"cat": pictures[0]}, num_inference_steps=3, output_type="latent", **how,
        callback_on_step_end=lambda pipe, step, t, values: steps_seen.append(step) or values,
    ).images  # fmt: skip
    assert latents.shape == (1, *lexicon.t2i.latent_shape) and steps_seen == [0, 1, 2]


def test_words_alone_are_the_base_pipelines(bases, tower_folder, tmp_path):
    base, how = bases["stable_diffusion"], {"num_inference_steps": 2, "height": 16, "width": 16}
    own = DiffusionPipeline.from_pretrained(
        base, custom_pipeline=str(FILES / "stable_diffusion.py"), trust_remote_code=True
    )
    plain = DiffusionPipeline.from_pretrained(base)
    drawn = [
        pipeline("a cat", negative_prompt="red", generator=torch.Generator().manual_seed(0), **how).images[0]
        for pipeline in (own, plain)
    ]
    assert drawn[0].tobytes() == drawn[1].tobytes()
    with pytest.raises(InputError, match="call load_vilex"):
        own("<cat> in snow", {}, **how)
    with pytest.raises(InputError, match="no ViLex encoder"):
        own.load_vilex(tower_folder)


def test_loras_of_the_base_model_keep_working(bases, tower_folder, tmp_path, pictures):
    base, how = bases["stable_diffusion"], {"num_inference_steps": 2, "height": 16, "width": 16}
    encoder = encoder_for(base, tower_folder, tmp_path)
    own = DiffusionPipeline.from_pretrained(
        base, custom_pipeline=str(FILES / "stable_diffusion.py"), trust_remote_code=True
    ).load_vilex(encoder)
    plain, lexicon = DiffusionPipeline.from_pretrained(base), VisualLexicon.from_pretrained(encoder)
    add_adapter(lexicon.t2i, rank=4)
    torch.manual_seed(0)
    for name, parameter in lexicon.t2i.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    save_adapter(lexicon.t2i, tmp_path / "lora")
    embeds = VisualLexicon.from_pretrained(encoder).prompt_embeds("<cat:4>", {"cat": pictures[0]})

    def draw(pipeline, *prompt, **more):
        return pipeline(*prompt, generator=torch.Generator().manual_seed(0), **how, **more).images[0]

    before = draw(own, "<cat:4>", {"cat": pictures[0]})
    for pipeline in (own, plain):
        pipeline.load_lora_weights(tmp_path / "lora")
    after = draw(own, "<cat:4>", {"cat": pictures[0]})
    assert same(after, draw(plain, **embeds)) and not same(after, before)


def test_image_tokens_in_the_refiner_of_xl(bases, tower_folder, tmp_path):
    """It reads the second text encoder alone, whose features are the last columns of XL's."""
    lexicon = VisualLexicon.from_pretrained(encoder_for(bases["stable_diffusion_xl"], tower_folder, tmp_path))
    base, t2i = lexicon.pipeline(StableDiffusionXLPipeline), lexicon.t2i
    torch.manual_seed(23)
    refiner = StableDiffusionXLImg2ImgPipeline(
        t2i.vae, None, t2i.text_encoder_2, None, base.tokenizer_2, families.xl_unet(48, numbers=5), base.scheduler,
        requires_aesthetics_score=True,
    )  # fmt: skip
    how = {"num_inference_steps": 4, "generator": torch.Generator().manual_seed(0)}
    for pipeline in (base, refiner):
        pipeline.set_progress_bar_config(disable=True)
    tokens = {"v": torch.stack([t2i.word("cat"), t2i.word(" dog")])}
    embeds = lexicon.prompt_embeds("<v:2> in snow", tokens)
    half = base(**embeds, **how, denoising_end=0.5, output_type="latent", height=16, width=16).images
    width = t2i.text_encoder_2.config.hidden_size
    second = {name: value[..., -width:] if value.ndim == 3 else value for name, value in embeds.items()}
    drawn, expected = (
        refiner(**said, image=half, denoising_start=0.5, num_inference_steps=4).images[0]
        for said in (second, {"prompt": "cat dog in snow"})
    )
    assert same(drawn, expected)


def test_image_tokens_in_img2img_inpainting_and_controlnet(bases, tower_folder, tmp_path, pictures):
    lexicon = VisualLexicon.from_pretrained(encoder_for(bases["stable_diffusion"], tower_folder, tmp_path))
    embeds = lexicon.prompt_embeds("<cat:4> in snow", {"cat": pictures[0]})
    other = lexicon.prompt_embeds("<cat:4> in snow", {"cat": pictures[1]})
    photo, size = pictures[2].resize((16, 16)), {"height": 16, "width": 16}
    mask = Image.new("L", (16, 16))
    mask.paste(255, (8, 0, 16, 16))
    control = ControlNetModel.from_unet(lexicon.t2i.unet, conditioning_embedding_out_channels=(16, 32))
    kinds = {
        StableDiffusionImg2ImgPipeline: ({}, {"image": photo, "strength": 0.8}),
        StableDiffusionInpaintPipeline: ({}, {"image": photo, "mask_image": mask, "strength": 1.0, **size}),
        StableDiffusionControlNetPipeline: ({"controlnet": control}, {"image": photo, **size}),
    }
    for kind, (parts, arguments) in kinds.items():
        pipeline = lexicon.pipeline(kind, **parts)
        assert pipeline.unet is lexicon.t2i.unet
        pipeline.set_progress_bar_config(disable=True)
        first, second = (
            pipeline(**arguments, **one, num_inference_steps=4, generator=torch.Generator().manual_seed(0)).images[0]
            for one in (embeds, other)
        )
        assert first.size == (16, 16) and not same(first, second)
    with pytest.raises(InputError, match="StableDiffusionControlNetPipeline: the frozen model has no controlnet"):
        lexicon.pipeline(StableDiffusionControlNetPipeline)
