"""Textual inversion and DreamBooth learn, leave the frozen model as it was, and write files diffusers loads."""

import pytest
import torch
from diffusers import StableDiffusionPipeline

from tests import tiny
from vilex.baselines.dreambooth import load_adapter, save_adapter, tuned
from vilex.baselines.inversion import invert, save_word
from vilex.baselines.tuning import TuningSettings, latents_of
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.lexicon import VisualLexicon
from vilex.pictures.fit import square
from vilex.pictures.pixels import to_images, to_pixels
from vilex.prompt import parse
from vilex.t2i import load_t2i
from vilex.train.denoising import DenoisingLoss


@pytest.fixture(scope="module")
def drilled(tmp_path_factory, sd_folder):
    """A frozen model that knows two pictures by a word each."""
    rows = torch.linspace(-1, 1, 16)
    pixels = torch.stack([rows.expand(3, 16, 16), rows[:, None].expand(3, 16, 16)])
    folder = tiny.drilled(tmp_path_factory.mktemp("drilled"), sd_folder[2], pixels, ["cat", "dog"])
    return folder, pixels


def picture(pixels):
    return to_images(pixels[None])[0].resize((32, 32))


def loss_of(t2i, photo, prompt, tokens):
    loss, x0 = DenoisingLoss(t2i), latents_of(t2i, [photo]).repeat(32, 1, 1, 1)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(7))
    t = torch.linspace(300, 999, 32).long()
    with torch.no_grad():
        return loss(x0, noise, t, t2i.read([parse(prompt)] * 32, [tokens] * 32)).mean().item()


def test_inversion_finds_the_word(drilled, tmp_path):
    folder, pixels = drilled
    t2i = load_t2i(folder)
    photo = picture(pixels[1])
    settings = TuningSettings(steps=60, lr=5e-3, templates=("{}",))
    word, seconds = invert(t2i, [photo], "cat", 2, settings)
    assert word.shape == (2, 32) and seconds > 0
    found, wrong = (loss_of(t2i, photo, "<v:2>", {"v": v}) for v in (word, t2i.embed(torch.tensor([300, 300]))))
    before = loss_of(t2i, photo, "cat", {})
    assert found < before and found < wrong
    assert all(p.grad is None for module in t2i.modules for p in module.parameters())
    save_word(tmp_path / "word.safetensors", word)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.load_textual_inversion(tmp_path / "word.safetensors")
    embeds, _ = pipeline.encode_prompt("the <subject> in snow", "cpu", 1, False)
    own = t2i.read([parse("the <v:2> in snow")], [{"v": word}]).sequence
    assert torch.allclose(embeds, own, atol=1e-6)
    with pytest.raises(InputError, match="expected a word"):
        invert(t2i, [photo], "", 1, settings)


def test_dreambooth_learns_a_name_and_is_gone_afterwards(drilled, tower_folder, tmp_path):
    folder, pixels = drilled
    torch.manual_seed(0)
    encoder = ViLexEncoder.from_tower(str(tower_folder), width=32, num_tokens=4, blocks=1, heads=4)
    lexicon = VisualLexicon(encoder, load_t2i(folder))
    t2i, photo = lexicon.t2i, picture(pixels[1])
    untouched = {name: p.clone() for name, p in t2i.unet.named_parameters()}
    before = loss_of(t2i, photo, "sks cat", {})
    settings = TuningSettings(steps=60, lr=5e-3, templates=("{}",))
    x_t, t = torch.randn(1, *t2i.latent_shape), torch.tensor([700])
    with tuned(lexicon, [photo], "cat", settings, rank=4, prior_images=2) as seconds:
        assert seconds > 0 and loss_of(t2i, photo, "sks cat", {}) < before
        own = t2i.predict(x_t, t, t2i.read([parse("sks cat")], [{}]))
        save_adapter(t2i, tmp_path)
    assert dict(t2i.unet.named_parameters()).keys() == untouched.keys()
    assert all(torch.equal(p, untouched[name]) for name, p in t2i.unet.named_parameters())
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.load_lora_weights(tmp_path)
    embeds, _ = pipeline.encode_prompt("sks cat", "cpu", 1, False)
    assert torch.allclose(pipeline.unet(x_t, t, embeds).sample, own, atol=1e-5)
    load_adapter(t2i, tmp_path)
    assert torch.allclose(t2i.predict(x_t, t, t2i.read([parse("sks cat")], [{}])), own, atol=1e-6)
    t2i.unet.unload_lora()


def test_latents_are_of_the_middle_square(sd_folder):
    t2i = load_t2i(sd_folder[1])
    wide = picture(torch.rand(3, 16, 16)).resize((48, 32))
    expected = t2i.encode(to_pixels(square(wide, 16))[None])
    assert torch.allclose(latents_of(t2i, [wide]), expected, atol=1e-6)
