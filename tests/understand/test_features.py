"""What a language model sees of an image: which numbers, of which view, in which order; nothing changes them."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, SiglipVisionModel

from tests import tiny
from vilex.encoder import ViLexConfig, ViLexEncoder
from vilex.encoder.eyes import Eyes, load_eyes
from vilex.errors import InputError
from vilex.hub.plain_tower import export_tower
from vilex.pictures.pixels import to_pixels
from vilex.t2i import load_t2i
from vilex.understand.features import FeaturesConfig, ImageFeatures
from vilex.understand.views import crop_boxes

COLOURS = ["red", "lime", "blue", "yellow"]


def see(encoder, kind, **settings):
    """Features of an encoder, by its folder."""
    return ImageFeatures(load_eyes(str(encoder)), FeaturesConfig(kind=kind, **settings))


def quarters(width=96, height=48, colours=COLOURS):
    """A picture of four one-coloured quarters, row by row."""
    picture = Image.new("RGB", (width, height))
    for i, colour in enumerate(colours):
        left, top = (i % 2) * width // 2, (i // 2) * height // 2
        picture.paste(colour, (left, top, left + width // 2, top + height // 2))
    return picture


@pytest.fixture(scope="module")
def photo():
    pixels = np.random.default_rng(0).integers(0, 256, (61, 90, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((180, 122), Image.Resampling.BICUBIC)


def test_shapes_of_every_kind(model_folder, photo):
    shapes = {
        "patches": [(16, 32)], "patches+tokens": [(16, 32), (80, 32)], "tokens": [(80, 32)],
        "patches+pooled": [(16, 32), (80, 32)], "pooled": [(80, 32)], "vae": [(16, 64)],
    }  # fmt: skip
    for kind, wanted in shapes.items():
        features = see(model_folder, kind)
        made = features.of_images([photo, photo])
        assert [tuple(part.shape) for part in made] == [(2, *shape) for shape in wanted], kind
        assert [(part.count, part.width) for part in features.parts] == wanted
        assert features.count == sum(count for count, _ in wanted)
    assert see(model_folder, "tokens", grid=3, tokens_per_view=7).count == 10 * 7
    assert see(model_folder, "tokens", grid=1, tokens_per_view=75).count == 75


def test_the_papers_336():
    """On the shape of the paper's own tower, without weights."""
    tower = {
        "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
        "num_attention_heads": 16, "patch_size": 14, "image_size": 224,
    }  # fmt: skip
    with torch.device("meta"):
        eyes = Eyes.of_encoder(ViLexEncoder(ViLexConfig(tower=tower, width=1024, heads=16)))
    features = ImageFeatures(eyes, FeaturesConfig(kind="patches+tokens"))
    assert [(part.count, part.width) for part in features.parts] == [(256, 1152), (80, 1024)] and features.count == 336


def test_patches_are_the_towers_before_pooling_of_the_squashed_whole(tmp_path, model_folder, photo):
    (patches,) = see(model_folder, "patches").of_images([photo])
    export_tower(str(model_folder), tmp_path / "plain")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "plain")
    pixels = processor(photo, return_tensors="pt").pixel_values
    tower = SiglipVisionModel.from_pretrained(tmp_path / "plain").eval()
    assert torch.equal(patches, tower(pixels).last_hidden_state)
    encoder = ViLexEncoder.from_pretrained(model_folder).eval()
    assert not torch.equal(pixels, encoder.preprocess([photo]))  # which cuts the sides off


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
def test_other_towers_leave_their_class_token_out(tmp_path, kind, photo):
    folder = tiny.tower(tmp_path / kind, kind)
    features = see(folder, "patches+pooled")
    assert [part.count for part in features.parts] == [16, 80]
    patches, _ = features.of_images([photo])
    tower = features.eyes.tower
    hidden = tower(pixel_values=features.views(photo)[:1]).last_hidden_state
    assert torch.equal(patches[0], hidden[0, 1:])


def test_views_are_the_whole_then_the_crops_row_by_row():
    features = see("nano", "tokens")
    views = features.views(quarters())
    assert views.shape == (5, 3, 64, 64)
    for i, colour in enumerate(COLOURS):
        wanted = features.eyes.preprocess([Image.new("RGB", (8, 8), colour)])[0]
        assert torch.equal(views[1 + i], wanted)
        corner = views[0][:, (i // 2) * 60 + 2, (i % 2) * 60 + 2]
        assert torch.equal(corner, wanted[:, 0, 0])
    assert see("nano", "tokens", grid=3).views(quarters()).shape[0] == 10
    odd = Image.new("RGB", (5, 2))
    assert crop_boxes(*odd.size, 2) == [(0, 0, 3, 1), (2, 0, 5, 1), (0, 1, 3, 2), (2, 1, 5, 2)]
    assert see("nano", "tokens", grid=16).views(odd).shape[0] == 257


@pytest.mark.parametrize("kind", ["patches+tokens", "patches+pooled"])
def test_a_changed_crop_changes_the_whole_and_its_own_16_only(model_folder, kind):
    features = see(model_folder, kind)
    before = features.of_images([quarters()])
    for changed in range(4):
        colours = [*COLOURS]
        colours[changed] = "black"
        after = features.of_images([quarters(colours=colours)])
        assert not torch.equal(before[0], after[0])
        differs = [(before[1][0, i] - after[1][0, i]).abs().max() > 1e-4 for i in range(80)]
        assert [any(differs[i : i + 16]) for i in range(0, 80, 16)] == [True] + [i == changed for i in range(4)]


def test_tokens_are_the_poolers_on_the_scale_of_words(model_folder, photo):
    features = see(model_folder, "tokens", grid=1, tokens_per_view=5)
    (tokens,) = features.of_images([photo])
    encoder = ViLexEncoder.from_pretrained(model_folder).eval()
    own = encoder(features.views(photo), 5).tokens
    assert torch.allclose(tokens * encoder.pooler.std + encoder.pooler.mean, own, atol=1e-6)


def test_pooled_patches_are_means_over_squares(model_folder, photo):
    patches, pooled = see(model_folder, "patches+pooled", tokens_per_view=4).of_images([photo])
    grid = patches[0].view(4, 4, 32)
    means = torch.stack([grid[y : y + 2, x : x + 2].mean((0, 1)) for y in (0, 2) for x in (0, 2)])
    assert torch.allclose(pooled[0, :4], means, atol=1e-6)


def test_latents_are_the_frozen_models_own_as_many_as_patches(model_folder, sd_folder, photo):
    features = see(model_folder, "vae")  # by the encoder's own base model
    assert features.latents.fold == 4 and features.views.preprocess.size == 32  # an auto-encoder that halves sides
    t2i = load_t2i(sd_folder[1])
    size = features.views.preprocess.size
    latents = t2i.encode(to_pixels(photo.resize((size, size), Image.Resampling.BICUBIC))[None])
    (made,) = features.of_images([photo])
    folded = torch.nn.functional.pixel_unshuffle(latents, features.latents.fold)
    assert torch.allclose(made[0].T.reshape(folded.shape[1:]), folded[0], atol=1e-5)
    assert see("nano", "vae").parts[0].count == 64 and see("nano", "vae").latents.fold == 1


def test_stable_diffusions_latents_beside_so400m_are_256_of_16():
    """The rule by its numbers: 224 pixels of patches of 14, an auto-encoder of 8 and 4 channels."""
    from diffusers import AutoencoderKL

    from vilex.understand.latents import LatentPatches

    vae = AutoencoderKL(
        block_out_channels=(4, 4, 4, 4), down_block_types=("DownEncoderBlock2D",) * 4, norm_num_groups=2,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4,
    )  # fmt: skip
    latents = LatentPatches(vae, side=16, pixels=224)
    assert (latents.preprocess.size, latents.fold, latents.count, latents.width) == (256, 2, 256, 16)


def test_nothing_of_the_eyes_changes_or_learns(model_folder, photo):
    for kind in ("patches+tokens", "vae"):
        features = see(model_folder, kind)
        before = features.weights_sha256()
        made = features.of_images([photo])
        assert not any(part.requires_grad for part in made)
        assert not any(p.requires_grad for module in features.modules for p in module.parameters())
        assert not any(module.training for module in features.modules)
        features._hash = ""
        assert features.weights_sha256() == before


def test_the_key_is_of_weights_and_settings_alone(tmp_path, model_folder, tower_folder):
    key = see(model_folder, "patches+tokens").key()
    assert key == see(model_folder, "patches+tokens", cache=str(tmp_path)).key()
    others = [
        see(model_folder, "patches"), see(model_folder, "patches+pooled"), see(model_folder, "patches+tokens", grid=3),
        see(model_folder, "patches+tokens", tokens_per_view=15), see("nano", "patches+tokens"),
        see(model_folder, "patches+tokens").to("cpu", torch.bfloat16),
    ]  # fmt: skip
    keys = {key, *(one.key() for one in others)}
    assert len(keys) == 1 + len(others)
    encoder = ViLexEncoder.from_pretrained(model_folder)
    encoder.pooler.queries.data.add_(1)  # which patches do not depend on
    other = Eyes.of_encoder(encoder)
    same = [ImageFeatures(other, FeaturesConfig(kind=kind)).key() for kind in ("patches", "patches+tokens")]
    assert same[0] == see(model_folder, "patches").key() and same[1] != key
    assert see(model_folder, "patches", grid=3).key() == see(model_folder, "patches").key()
    alike = see(tower_folder, "patches+pooled").key(), see(model_folder, "patches+pooled").key()
    assert alike[0] == alike[1]  # one tower, with a pooler or without


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("patches+tokens", {}, "a vision model without a pooler"),
        ("patches+pooled", {"tokens_per_view": 15}, "make no square of 4 x 4"),
        ("pooled", {"tokens_per_view": 25}, "make no square of 4 x 4"),
        ("vae", {}, "names no text-to-image model; name one as features.vae"),
    ],
)
def test_what_the_eyes_cannot_give_is_one_line(tower_folder, kind, settings, said):
    with pytest.raises(InputError, match=said):
        see(tower_folder, kind, **settings)


def test_more_tokens_than_there_are_is_one_line(model_folder):
    with pytest.raises(InputError, match=r"tokens_per_view: 76, but .* has 75; ask for no more"):
        see(model_folder, "tokens", tokens_per_view=76)
    assert isinstance(load_eyes(str(model_folder)), Eyes)
