"""The nano recipe: captions tell the truth, the held-out rule holds, and each preset runs through."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image, ImageDraw

from recipes.nano.autoencoder import new_autoencoder, to_model, whiten
from recipes.nano.captions import dense_captions, short_captions
from recipes.nano.colours import PALETTE, grid_words, name_colours
from recipes.nano.photos import photo_captions
from recipes.nano.presets import AutoencoderPreset
from recipes.nano.scenes import RASTER, SIZE, SIZES, random_scene
from recipes.nano.sprites import CONCEPTS, STYLES, Sprite, is_held_out

ROOT = Path(__file__).parents[2]


def sprite(concept="fox", style="noto", colour="red"):
    image = Image.new("RGBA", (64, 64))
    ImageDraw.Draw(image).ellipse((4, 4, 60, 60), fill=colour)
    return Sprite(concept, style, image)


SPRITES = [
    sprite(concept, style, colour)
    for concept, colour in (("fox", "orange"), ("lion", "gold"), ("star", "yellow"), ("tent", "green"))
    for style in STYLES
]


def test_palette_names_itself():
    assert name_colours(np.array(list(PALETTE.values()))) == list(PALETTE)


def test_grid_words_read_row_by_row():
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:32, 32:] = PALETTE["red"]
    pixels[32:] = PALETTE["white"]
    assert grid_words(pixels, 2) == ["black", "red", "white", "white"]


def test_held_out_is_a_tenth_by_a_fixed_rule():
    share = np.mean([is_held_out(concept, style) for concept in CONCEPTS for style in STYLES])
    assert 0.07 < share < 0.14
    assert is_held_out("skull", "fluent-3d") == is_held_out("skull", "fluent-3d")


@pytest.mark.parametrize("seed", range(60))
def test_captions_are_true(seed):
    rng = np.random.default_rng(seed)
    scene = random_scene(SPRITES, rng)
    name, sentence = short_captions(scene, rng)
    words = {placed.sprite.word for placed in scene.objects}
    assert all(word in name and word in sentence for word in words)
    for style, spellings in STYLES.items():
        if any(f"in {spelling}" in sentence for spelling in spellings):
            assert style in {placed.sprite.style for placed in scene.objects}
    first = scene.objects[0]
    if "to the left of" in sentence:
        assert first.x < scene.objects[1].x
    if " below " in sentence:
        assert first.y > scene.objects[1].y
    if "at the" in sentence and "top" in sentence:
        assert first.y < 32
    if scene.ground.kind == "plain" and "ground" in sentence:
        assert scene.ground.words[0] in sentence
    pixels = scene.render()
    assert pixels.shape == (64, 64, 3)
    eight = dense_captions(scene, pixels, rng)[1].split("fine colors: ")[1].split()
    assert eight == grid_words(pixels, 8)


@pytest.mark.parametrize("seed", range(40))
def test_drawings_stand_whole_on_the_raster(seed):
    for placed in random_scene(SPRITES, np.random.default_rng(seed)).objects:
        left, top = placed.x - placed.size // 2, placed.y - placed.size // 2
        assert placed.size in SIZES and min(left, top) >= 0 and max(left, top) + placed.size <= SIZE
        offset = (SIZE - placed.size) // 2 if placed.size == SIZES[-1] else 0
        assert (left - offset) % RASTER == (top - offset) % RASTER == 0


def test_whitened_codes_have_variance_one_and_decode_as_before():
    torch.manual_seed(0)
    vae = new_autoencoder(AutoencoderPreset(channels=8, latent_channels=4))
    with torch.no_grad():  # small codes, one channel far fainter: within the decoder's soft clamp nothing is lost
        vae.encoder.layers[-1].weight[1] *= 0.05
        vae.encoder.layers[-1].bias.zero_()
    pixels = np.stack([random_scene(SPRITES, np.random.default_rng(seed)).render() for seed in range(32)])
    x = to_model(pixels, "cpu")
    with torch.no_grad():
        before = vae.decoder.layers(vae.encoder(x))
        whiten(vae, pixels, "cpu")
        code = vae.encoder(x)
        after = vae.decoder.layers(code)
    assert torch.allclose(code.mean((0, 2, 3)), torch.zeros(4), atol=1e-2)
    assert torch.allclose(code.std((0, 2, 3)), torch.ones(4), atol=1e-2)
    assert torch.allclose(after[..., 24:40, 24:40], before[..., 24:40, 24:40], atol=1e-3)  # off the zero padding


def test_same_seed_same_scene():
    a, b = (random_scene(SPRITES, np.random.default_rng(7)).render() for _ in range(2))
    assert np.array_equal(a, b)


def test_photo_captions_are_true():
    photo = {"name": "Persian cat", "box": [0, 0, 20, 20], "grey": True}
    for seed in range(10):
        name, sentence = photo_captions(photo, np.random.default_rng(seed))
        assert name == "a black and white photo of a persian cat"
        assert sentence == "a black and white photo of a small persian cat at the top left"


OTHERS = ("spoon", "compass", "ladder", "anchor", "knot", "yarn", "kite", "sled", "dvd", "link", "gear", "ring")


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder in the real tables' shape: drawn circles for emoji, noise for photographs."""
    folder = tmp_path_factory.mktemp("data")
    colours = ("red", "orange", "gold", "green", "blue", "purple")
    rows = [
        {"image": png(sprite(colour=colours[i % 6]).image), "name": concept, "style": style}
        for i, concept in enumerate((*CONCEPTS[:20], *OTHERS))
        for style in STYLES
    ]
    pa.parquet.write_table(pa.Table.from_pylist(rows), folder / "emoji-64px.parquet")
    rng = np.random.default_rng(0)
    photos = [
        {
            "image": png(Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))),
            "name": name,
            "box": [5, 5, 50, 60],
            "grey": False,
            "wnid": "n0",
        }
        for name in ("sock", "jellyfish") * 20
    ]
    pa.parquet.write_table(pa.Table.from_pylist(photos), folder / "tiny-imagenet-train-0of4.parquet")
    pa.parquet.write_table(pa.Table.from_pylist(photos), folder / "tiny-imagenet-val.parquet")
    return folder


SMALL = (
    "compile=false",
    "data.scenes=48",
    "data.focus_scenes=48",
    "data.extra_scenes=16",
    "data.held_out_scenes=12",
    "autoencoder.images=64",
    "autoencoder.channels=8",
    "autoencoder.batch=16",
    "autoencoder.whitened_images=32",
    "t2i.unet_channels=[32,32]",
    "t2i.text_width=48",
    "t2i.text_layers=1",
    "t2i.images=48",
    "t2i.focus_images=48",
    "t2i.batch=16",
    "t2i.warmup=1",
    "tower.width=48",
    "tower.layers=1",
    "tower.images=48",
    "tower.batch=16",
    "vilex.run.steps=3",
    "vilex.run.batch_size=8",
    "vilex.run.sample_every=0",
    "vilex.data.workers=0",
    "vilex.run.mixed_precision=no",
    "report.images=12",
    "report.steps=2",
)


@pytest.mark.parametrize(
    ("preset", "extra"), [("cpu", ()), ("gpu", ("device=cpu", "data.photos=20", "data.held_out_photos=4"))]
)
def test_every_stage_of_a_preset_runs(tmp_path, data, preset, extra):
    command = [sys.executable, "-m", "recipes.nano", "--preset", preset, "--data", str(data), "--out", str(tmp_path)]
    run = subprocess.run([*command, *SMALL, *extra], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert (tmp_path / "nano" / "model.safetensors").is_file() and (
        tmp_path / "nano" / "t2i" / "model_index.json"
    ).is_file()
    assert (tmp_path / "report" / "report.json").is_file() and (tmp_path / "report" / "held-out.png").is_file()
