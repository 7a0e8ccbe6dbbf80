"""Image to image and inpainting, in every family as diffusers' own pipelines do them."""

import inspect
import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import (
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    IFImg2ImgPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    ZImageImg2ImgPipeline,
    ZImageInpaintPipeline,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from tests.conformance.common import guided, word_tokens
from tests.drawings import same
from tests.families import FAMILIES
from vilex.encoder import EMBEDDED
from vilex.errors import InputError
from vilex.guidance import Guidance
from vilex.img2img import start_from
from vilex.lexicon import VisualLexicon
from vilex.pictures.pixels import to_images

IMG2IMG = {
    "sd1": StableDiffusionImg2ImgPipeline,
    "sd2": StableDiffusionImg2ImgPipeline,
    "sdxl": StableDiffusionXLImg2ImgPipeline,
    "sdxl-turbo": StableDiffusionXLImg2ImgPipeline,
    "sd3": StableDiffusion3Img2ImgPipeline,
    "sd3.5-without-t5": StableDiffusion3Img2ImgPipeline,
    "flux": FluxImg2ImgPipeline,
    "if": IFImg2ImgPipeline,
    "z-image": ZImageImg2ImgPipeline,
}
INPAINTING = {
    "sd1": StableDiffusionInpaintPipeline,
    "sd2": StableDiffusionInpaintPipeline,
    "sdxl": StableDiffusionXLInpaintPipeline,
    "sdxl-turbo": StableDiffusionXLInpaintPipeline,
    "sd3": StableDiffusion3InpaintPipeline,
    "sd3.5-without-t5": StableDiffusion3InpaintPipeline,
    "flux": FluxInpaintPipeline,
    "z-image": ZImageInpaintPipeline,
}  # IF's own keeps what it must by another rule


@pytest.fixture(autouse=True)
def _encode_to_the_mode(monkeypatch):
    """diffusers' pipelines draw the picture's latents at random; ours are the same every time."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())


def right_half(size, height=None):
    mask = Image.new("L", (size, height or size))
    mask.paste(255, (size // 2, 0, size, height or size))
    return mask


def drawn_by_both(kind, name, lexicon, picture, strength, mask=None):
    """The picture of diffusers' own pipeline, and the lexicon's, both of the given picture's size."""
    (width, height), tokens = picture.size, {"v": word_tokens(lexicon.t2i, ["cat", " dog"])}
    pipeline = lexicon.pipeline(kind, **dict.fromkeys(FAMILIES[name].absent))
    pipeline.set_progress_bar_config(disable=True)
    arguments = guided(name)
    if mask:
        arguments["mask_image"] = mask
    if "height" in inspect.signature(pipeline.__call__).parameters:
        arguments |= {"height": height, "width": width}
    if name == "flux":
        arguments["guidance_scale"] = lexicon.t2i.distilled_guidance  # this pipeline's default is another
    latents = name.startswith("sd3")  # diffusers 0.42's inpainting of SD3 forgets the auto-encoder's shift
    expected = pipeline(
        **lexicon.prompt_embeds("<v:2> in snow", tokens), **arguments, image=picture, strength=strength,
        num_inference_steps=4, generator=torch.Generator().manual_seed(3), output_type="latent" if latents else "pil",
    ).images  # fmt: skip
    if latents:
        expected = to_images(lexicon.t2i.decode(expected).detach())
    drawn = lexicon.generate(
        "<v:2> in snow", tokens, guidance=Guidance(2.5), seed=3, steps=4, scheduler=FAMILIES[name].scheduler,
        start=picture, strength=strength, mask=mask, width=width, height=height,
    )[0]  # fmt: skip
    return expected[0], drawn


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_image_to_image_is_diffusers_own(family, lexicon, pictures, strength):
    if family[0] not in IMG2IMG:
        pytest.skip("diffusers has no pipeline of this family")
    picture = pictures[2].resize((lexicon.t2i.image_size,) * 2)
    expected, drawn = drawn_by_both(IMG2IMG[family[0]], family[0], lexicon, picture, strength)
    assert same(drawn, expected)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_inpainting_is_diffusers_own(family, lexicon, pictures, strength):
    if family[0] not in INPAINTING:
        pytest.skip("diffusers has no such pipeline of this family")
    picture = pictures[2].resize((lexicon.t2i.image_size,) * 2)
    mask = right_half(lexicon.t2i.image_size)
    expected, drawn = drawn_by_both(INPAINTING[family[0]], family[0], lexicon, picture, strength, mask)
    assert same(drawn, expected)


@pytest.mark.parametrize("kinds", [IMG2IMG, INPAINTING])
def test_starts_that_are_not_square_are_diffusers_own(family, lexicon, pictures, kinds):
    name, mask = family[0], right_half(24, 16) if kinds is INPAINTING else None
    if name not in kinds or not lexicon.t2i.resizable:
        pytest.skip("no such pipeline of this family draws other sizes")
    expected, drawn = drawn_by_both(kinds[name], name, lexicon, pictures[2].resize((24, 16)), 0.5, mask)
    assert drawn.size == (24, 16) and same(drawn, expected)


def test_what_the_mask_keeps_is_the_picture(family, lexicon, pictures):
    size = lexicon.t2i.image_size
    picture, how = pictures[2].resize((size, size)), {"start": pictures[2].resize((size, size)), "steps": 4}
    for scheduler in ("dpm++", "euler", "heun", "unipc"):
        kept = lexicon.generate("cat", **how, scheduler=scheduler, mask=Image.new("L", (size, size)))[0]
        anew = lexicon.generate("cat", **how, scheduler=scheduler, mask=Image.new("L", (size, size), 255))[0]
        code = lexicon.t2i.decode(start_from(lexicon.t2i, picture, 1, 1.0).x0)
        assert same(kept, to_images(code)[0])
        assert same(anew, lexicon.generate("cat", steps=4, scheduler=scheduler)[0])


@pytest.mark.parametrize("last", ["noise alone", "some picture"])
def test_less_strength_is_nearer_to_the_picture(pictures, tmp_path, last):
    """The embedded model's last noise level is noise alone, which some samplers cannot follow: they draw with another.

    Starting late, diffusers' lms takes coefficients for steps that it has not made: of one step alone it is not asked.
    """
    model, schedulers = EMBEDDED["nano"], ("dpm++", "euler", "unipc", "ddim", "ddpm", "euler-a")
    if last == "some picture":
        model, schedulers = shutil.copytree(model, tmp_path / "nano"), ("heun", "pndm", "lms")
        path = model / "t2i" / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "rescale_betas_zero_snr": False}))
    lexicon, picture = VisualLexicon.from_pretrained(model), pictures[2].resize((64, 64))
    code = np.asarray(to_images(lexicon.t2i.decode(start_from(lexicon.t2i, picture, 1, 1.0).x0))[0], dtype=float)
    for scheduler in schedulers:
        how = {"start": picture, "steps": 10, "scheduler": scheduler}
        away = [
            np.abs(np.asarray(lexicon.generate("cat", strength=strength, **how)[0]) - code).mean()
            for strength in ((0.5, 1.0) if scheduler == "lms" else (0.1, 0.5, 1.0))
        ]
        assert all(nearer < farther for nearer, farther in pairwise(away))


def test_a_batch_starts_as_one_by_one(family, lexicon, pictures):
    how = {"start": pictures[2], "mask": right_half(32), "strength": 0.5, "steps": 4}
    together = lexicon.generate(["cat", "a red dog"], seed=[3, 4], **how)
    alone = [lexicon.generate(text, seed=seed, **how)[0] for text, seed in (("cat", 3), ("a red dog", 4))]
    assert all(same(a, b) for a, b in zip(together, alone, strict=True))


def test_starts_that_cannot_be_are_named(lexicon, pictures):
    picture = pictures[2]
    with pytest.raises(InputError, match=r"strength 0.01: expected 0.25 \(one of 4 steps\) to 1"):
        lexicon.generate("cat", start=picture, strength=0.01, steps=4)
    with pytest.raises(InputError, match=r"strength: expected"):
        lexicon.generate("cat", start=picture, strength=1.5, steps=4)
    with pytest.raises(InputError, match="mask: expected the picture's size, 32 x 32, got 8 x 8"):
        lexicon.generate("cat", start=picture, mask=right_half(8))
    with pytest.raises(InputError, match="of a picture to start from"):
        lexicon.generate("cat", mask=right_half(8))
    with pytest.raises(InputError, match=r"nothing.png: no such file"):
        lexicon.generate("cat", start="nothing.png")


def test_a_latents_place_is_what_most_of_it_is(lexicon, pictures):
    frame = Image.new("L", (32, 32))
    frame.paste(255, (5, 5, 27, 27))
    mask = start_from(lexicon.t2i, pictures[2], 1, mask=frame).mask
    assert mask.shape == (1, 1, *lexicon.t2i.latent_shape[1:]) and mask.any() and not mask.all()
    assert torch.equal(mask, mask.flip(2, 3))


def test_masks_of_every_kind_mean_the_same(tmp_path):
    lexicon = VisualLexicon.from_pretrained("nano")
    white = np.zeros((64, 64), dtype=bool)
    white[10:30, 20:50] = True
    clear = Image.new("RGBA", (64, 64), "black")
    clear.putalpha(Image.fromarray(np.where(white, 0, 255).astype(np.uint8)))
    kinds = [
        Image.fromarray(np.where(white, 255, 0).astype(np.uint8)),
        Image.fromarray(white),
        Image.fromarray(white.astype(np.float32)),
        clear,
    ]
    picture = Image.new("RGB", (64, 64), "red")
    found = [start_from(lexicon.t2i, picture, 1, mask=mask).mask for mask in kinds]
    for i, mask in enumerate(kinds):
        mask.save(tmp_path / f"{i}.tif")
        found.append(start_from(lexicon.t2i, picture, 1, mask=tmp_path / f"{i}.tif").mask)
    assert 0 < found[0].sum() < found[0].numel() and all(torch.equal(mask, found[0]) for mask in found)
