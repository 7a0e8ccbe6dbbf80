import shutil
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
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
from safetensors.torch import load_file, save_file

import vilex.pipelines
from tests import families
from tests.drawings import same
from vilex.baselines.dreambooth import add_adapter, save_adapter
from vilex.encoder import ViLexConfig, ViLexEncoder
from vilex.errors import InputError
from vilex.hub.folder import fingerprint
from vilex.lexicon import VisualLexicon
from vilex.prompt import PromptWarning
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
    assert same(*drawn)
    with pytest.raises(InputError, match="call load_vilex"):
        own("<cat> in snow", {}, **how)
    with pytest.raises(InputError, match="no ViLex encoder"):
        own.load_vilex(tower_folder)


def test_stressed_words_are_read_once_there_is_an_encoder(own, bases, pictures):
    pipeline, folder = own
    plain = DiffusionPipeline.from_pretrained(bases["stable_diffusion"])
    lexicon = VisualLexicon.from_pretrained(folder)
    for text, images in (("a (red:1.5) cat", {}), ("a (red:1.5) <cat:4>", {"cat": pictures[0]})):
        found = drawn(pipeline, text, images)
        assert np.abs(found - drawn(plain, **lexicon.prompt_embeds(text, images))).max() < 1e-3
    assert np.abs(found - drawn(pipeline, "a red <cat:4>", images)).max() > 1e-3
    bare = own_pipeline(bases["stable_diffusion"])
    assert np.allclose(drawn(bare, "a clock (at 10:30)"), drawn(plain, "a clock (at 10:30)"), atol=1e-5)


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


def own_pipeline(base, kind="stable_diffusion"):
    pipeline = DiffusionPipeline.from_pretrained(
        base, custom_pipeline=str(FILES / f"{kind}.py"), trust_remote_code=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn(pipeline, *prompt, size=16, **more):
    how = {"num_inference_steps": 2, "height": size, "width": size, "output_type": "np"}
    return pipeline(*prompt, generator=torch.Generator().manual_seed(0), **how, **more).images


@pytest.fixture
def own(bases, tower_folder, tmp_path):
    """A custom pipeline of Stable Diffusion with its encoder, and the encoder's folder."""
    folder = encoder_for(bases["stable_diffusion"], tower_folder, tmp_path)
    return own_pipeline(bases["stable_diffusion"]).load_vilex(folder), folder


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_textual_inversions_of_several_vectors_beside_images(bases, tower_folder, tmp_path, pictures, before):
    """A name in brackets that is no image's is the embedding's; each of its vectors is a word."""
    base, folder = bases["stable_diffusion"], encoder_for(bases["stable_diffusion"], tower_folder, tmp_path)
    pipeline = own_pipeline(base)
    rows = torch.randn(3, pipeline.text_encoder.config.hidden_size) * 0.1
    if before:
        pipeline.load_textual_inversion({"<toy>": rows}, token="<toy>")
        pipeline.load_vilex(folder)
    else:
        pipeline.load_vilex(folder)
        pipeline.load_textual_inversion({"<toy>": rows}, token="<toy>")
    lexicon = VisualLexicon.from_pretrained(folder)
    cat = lexicon.encode([pictures[0]], 4)[0]
    expected = lexicon.prompt_embeds("<cat> and <toy>", {"cat": cat, "toy": rows}, negative="<toy> in red")
    assert torch.allclose(
        pipeline.lexicon.prompt_embeds(
            pipeline._parsed("<cat> and <toy>", {"cat": cat}),
            {"cat": cat},
            negative=pipeline._parsed("<toy> in red", {}),
        )["prompt_embeds"],
        expected["prompt_embeds"],
        atol=1e-5,
    )
    plain = DiffusionPipeline.from_pretrained(base)
    expected = lexicon.prompt_embeds("<cat> and <toy>", {"cat": cat, "toy": rows})
    found = drawn(pipeline, "<cat> and <toy>", {"cat": cat})
    assert np.abs(found - drawn(plain, **expected)).max() < 1e-3
    plain.load_textual_inversion({"<toy>": rows}, token="<toy>")
    assert np.abs(drawn(pipeline, "<toy> in snow") - drawn(plain, "<toy> in snow")).max() < 1e-4
    with pytest.raises(InputError, match="<toy> is both an image and a textual inversion"):
        pipeline("<cat> and <toy>", {"cat": cat, "toy": cat})


def test_negative_prompts_are_one_or_one_a_prompt_and_may_hold_images(own, pictures):
    pipeline, folder = own
    lexicon = VisualLexicon.from_pretrained(folder)
    images = {"a": lexicon.encode(pictures[:1], 4)[0], "b": lexicon.encode(pictures[1:2], 4)[0]}
    found = drawn(pipeline, ["<a> in snow", "<b> in red"], images, negative_prompt=["a cat", "<a:2>"])
    for i, (text, negative) in enumerate((("<a> in snow", "a cat"), ("<b> in red", "<a:2>"))):
        sides = {
            f"{side}prompt_embeds": lexicon.prompt_embeds(one, images)["prompt_embeds"]
            for side, one in (("", text), ("negative_", negative))
        }
        latents = torch.randn(2, *lexicon.t2i.latent_shape, generator=torch.Generator().manual_seed(0))[i : i + 1]
        single = DiffusionPipeline.from_pretrained(pipeline.config._name_or_path)
        assert np.abs(drawn(single, **sides, latents=latents)[0] - found[i]).max() < 1e-3
    with pytest.raises(InputError, match="expected 1 negative prompt, or 2 for one a prompt, got 3"):
        pipeline(["<a>", "<b>"], images, negative_prompt=["x", "y", "z"])
    with pytest.raises(InputError, match="leave out the negative prompt"):
        pipeline("<a> and <b>", images, negative_prompt="red", text_free=True)


def test_clip_skip_leaves_out_last_layers(own, pictures):
    pipeline, folder = own
    lexicon = VisualLexicon.from_pretrained(folder)
    images = {"a": lexicon.encode(pictures[:1], 4)[0]}
    normal = lexicon.prompt_embeds("<a> in snow", images)
    skipped = lexicon.prompt_embeds("<a> in snow", images, clip_skip=1)
    shorter = VisualLexicon.from_pretrained(folder)
    shorter.t2i.text_encoder.encoder.layers = shorter.t2i.text_encoder.encoder.layers[:-1]
    expected = shorter.prompt_embeds("<a> in snow", images)
    assert torch.allclose(skipped["prompt_embeds"], expected["prompt_embeds"], atol=1e-6)
    assert torch.allclose(skipped["negative_prompt_embeds"], normal["negative_prompt_embeds"], atol=1e-5)
    assert not torch.allclose(skipped["prompt_embeds"], normal["prompt_embeds"], atol=1e-3)
    plain = DiffusionPipeline.from_pretrained(pipeline.config._name_or_path)
    found = drawn(pipeline, "<a> in snow", images, clip_skip=1)
    assert np.abs(found - drawn(plain, **skipped)).max() < 1e-3
    words = lexicon.prompt_embeds("a cat", clip_skip=1)
    assert np.abs(drawn(pipeline, "a cat", clip_skip=1) - drawn(plain, **words)).max() < 1e-3
    with pytest.raises(InputError, match="clip_skip: expected a whole number from 0 to 1, got 2"):
        pipeline("<a> in snow", images, clip_skip=2)


def test_clip_skip_keeps_what_xl_pools(bases, tower_folder, tmp_path):
    """As diffusers' own: features from an earlier layer, the pooled vector from the last."""
    base = bases["stable_diffusion_xl"]
    lexicon = VisualLexicon.from_pretrained(encoder_for(base, tower_folder, tmp_path))
    found = lexicon.prompt_embeds("a cat in snow", clip_skip=1)
    expected = DiffusionPipeline.from_pretrained(base).encode_prompt("a cat in snow", clip_skip=1, device="cpu")
    assert torch.allclose(found["prompt_embeds"], expected[0], atol=1e-5)
    assert torch.allclose(found["pooled_prompt_embeds"], expected[2], atol=1e-5)


def test_a_base_with_another_text_encoder_is_refused(bases, tower_folder, tmp_path):
    folder = encoder_for(bases["stable_diffusion"], tower_folder, tmp_path)
    config = ViLexConfig.from_pretrained(folder)
    config.base_sha256 = fingerprint(bases["stable_diffusion"])
    config.save_pretrained(folder)
    other = tmp_path / "other"
    shutil.copytree(bases["stable_diffusion"], other)
    for part, refused in (("unet", False), ("text_encoder", True)):  # another denoiser reads the same words
        (path,) = (other / part).glob("*.safetensors")
        weights = load_file(path)
        name = next(iter(weights))
        save_file({**weights, name: weights[name] + 1}, path, {"format": "pt"})
        pipeline = own_pipeline(other)
        if refused:
            with pytest.raises(InputError, match=r"other/text_encoder/.*not the weights this encoder was trained with"):
                pipeline.load_vilex(folder)
        else:
            pipeline.load_vilex(folder)
    mixed = own_pipeline(bases["stable_diffusion"])
    mixed.text_encoder = pipeline.text_encoder
    with pytest.raises(InputError, match="not the weights this encoder was trained with"):
        mixed.load_vilex(folder)
    mixed.text_encoder = type(pipeline.text_encoder)(pipeline.text_encoder.config)
    mixed.text_encoder.config._name_or_path = mixed.text_encoder.name_or_path = ""
    with pytest.warns(UserWarning, match="cannot tell whether the encoder was trained with it"):
        mixed.load_vilex(folder)


def test_load_vilex_twice_leaves_one_hook(own, pictures):
    pipeline, folder = own
    first = drawn(pipeline, "<a:4> in snow", {"a": pictures[0]})
    pipeline.load_vilex(folder)
    assert len(pipeline.text_encoder.get_input_embeddings()._forward_hooks) == 1
    assert np.allclose(first, drawn(pipeline, "<a:4> in snow", {"a": pictures[0]}), atol=1e-5)


def test_parts_in_several_precisions_are_refused(own):
    pipeline, folder = own
    pipeline.text_encoder.to(torch.float16)
    with pytest.raises(InputError, match=r"text_encoder in float16, .*load it with torch_dtype=torch.float32"):
        pipeline.load_vilex(folder)


def test_names_of_images_are_those_of_the_library(own, pictures):
    pipeline, _ = own
    with warnings.catch_warnings():
        warnings.simplefilter("error", PromptWarning)
        parted = drawn(pipeline, "<caf\u00e9:4> in snow", {"cafe\u0301": pictures[0]})
    assert np.allclose(parted, drawn(pipeline, "<caf\u00e9:4> in snow", {"caf\u00e9": pictures[0]}), atol=1e-5)
    with pytest.raises(InputError, match="images: expected something for each name"):
        pipeline("a cat", [pictures[0]])


def test_an_image_that_no_prompt_names_is_warned_of(own, pictures):
    with pytest.warns(PromptWarning, match="image 'dog': no prompt has a slot <dog>"):
        drawn(own[0], "a cat", {"dog": pictures[0]})


def test_two_threads_draw_with_one_pipeline(own, pictures):
    """They take turns, for its scheduler holds a drawing's state; each gets its own picture."""
    pipeline, _ = own

    def draw(i):
        return drawn(pipeline, "<a:4> in snow", {"a": pictures[i % 2]})

    wanted = [draw(0), draw(1)]
    assert not np.allclose(*wanted, atol=1e-4)
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    try:
        with ThreadPoolExecutor(2) as pool:
            assert all(np.allclose(one, wanted[i % 2], atol=1e-5) for i, one in enumerate(pool.map(draw, range(20))))
    finally:
        sys.setswitchinterval(before)
