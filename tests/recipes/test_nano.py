"""The nano recipe: captions tell the truth, the held-out rule holds, and each preset runs through."""

import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch.nn import functional as F

from recipes.nano import __main__ as command
from recipes.nano.autoencoder import code_of, new_autoencoder, to_model, whiten
from recipes.nano.captions import captions_of
from recipes.nano.colours import PALETTE, name_colours
from recipes.nano.examples import samples
from recipes.nano.launch import train_shared
from recipes.nano.mosaic import LENGTH, cell_words, mosaic_words, place_vectors, word_parts, word_vectors
from recipes.nano.photos import photo_captions
from recipes.nano.pooler import train_pooler
from recipes.nano.presets import AutoencoderPreset, PoolerPreset, Preset, TextToImagePreset, TowerPreset
from recipes.nano.rows import table_row
from recipes.nano.scenes import RASTER, SIZE, SIZES, random_scene
from recipes.nano.speech import CaptionBank
from recipes.nano.sprites import CONCEPTS, STYLES, Sprite, is_held_out
from recipes.nano.start import begun_encoder, encoder_images, start_from
from recipes.nano.tokenizer import learn_tokenizer
from recipes.nano.tower import fit_heads, new_student
from recipes.nano.understanding.towers import encoder_folder, shown_by_vilex
from recipes.nano.vilex import vilex_config
from tests.forked import Forked
from vilex.encoder import ViLexEncoder
from vilex.encoder.towers import load_tower
from vilex.errors import InputError
from vilex.train.config import RunConfig, TrainConfig
from vilex.train.toml import load_toml

RECIPE = Path(__file__).parents[2] / "recipes" / "nano"
EXAMPLES = Path(__file__).parents[2] / "examples" / "images"


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


def test_a_mosaic_goes_from_coarse_to_fine_row_by_row():
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:] = PALETTE["white"]
    pixels[:32, 32:] = PALETTE["red"]
    words = mosaic_words(pixels)
    assert len(words) == LENGTH == 73
    assert words[1:5] == ["white", "red", "white", "white"]
    assert words[5:21] == ["white", "white", "red", "red"] * 2 + ["white"] * 8
    assert words[21:25] == ["white", "white", "red", "red"]  # without its corners
    assert words[0] == "redhardlyslopewhite"  # parted by a line that slopes down


@pytest.mark.parametrize(
    ("paint", "word"),
    [
        (lambda y, x: y < 8, "redoverblue"),
        (lambda y, x: y >= 8, "blueoverred"),
        (lambda y, x: x < 8, "redbesideblue"),
        (lambda y, x: y + x < 15, "redriseblue"),
        (lambda y, x: x > y, "redslopeblue"),
        (lambda y, x: abs(y - 7.5) + abs(x - 7.5) > 7.5, "redaroundblue"),
        (lambda y, x: y < 4, "redhardlyoverblue"),
        (lambda y, x: x < 13, "redmostlybesideblue"),
        (lambda y, x: y < 16, "red"),
    ],
)
def test_a_mosaic_word_says_how_two_colours_meet(paint, word):
    cell = [PALETTE["red"] if paint(y, x) else PALETTE["blue"] for y in range(16) for x in range(16)]
    assert cell_words(np.array([cell], dtype=np.float32)) == [word]
    assert word in word_parts()


def test_mosaic_words_that_look_alike_start_close_together():
    words = ["redoverwhite", "maroonoverwhite", "blueoverwhite", "redbesidewhite"]
    like, *others = word_vectors(words, 64, torch.Generator().manual_seed(0))
    near, far, turned = ((like - other).norm() for other in others)
    assert near < far and near < turned


def test_places_of_a_mosaic_start_as_neighbours_in_the_picture():
    places = place_vectors(192, torch.Generator().manual_seed(0))
    assert places.shape == (LENGTH, 192) and places.std() == pytest.approx(1, abs=0.05)
    quarters = places[5:21].view(4, 4, -1)  # the 4 x 4 level
    near = (quarters[1, 1] - quarters[1, 2]).norm()
    assert near < (quarters[1, 0] - quarters[1, 3]).norm() and near < (quarters[0, 0] - quarters[3, 3]).norm()


def test_captions_said_of_a_row(tmp_path):
    rng = np.random.default_rng(0)
    scenes = [random_scene(SPRITES, rng) for _ in range(8)]
    rows = [table_row(scene.render(), captions_of(scene, rng), [], []) for scene in scenes]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    tokenizer = learn_tokenizer(tmp_path / "t.parquet")
    settings = TextToImagePreset(empty_share=0.2, mosaic_share=0.4, told_share=0.0, blend_share=0.0)
    bank = CaptionBank(tmp_path / "t.parquet", tokenizer, settings)
    (whole,) = bank.draw(torch.tensor([3]), rng, whole_mosaics=True).ids
    assert tokenizer.decode(whole, skip_special_tokens=True).strip() == rows[3]["mosaic"]
    assert whole.tolist() == tokenizer(rows[3]["mosaic"], padding="max_length").input_ids
    said = [
        tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in bank.draw(torch.full((500,), 3), rng).ids
    ]
    known = [
        tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in tokenizer(rows[3]["captions"]).input_ids
    ]
    empty = said.count("")
    captions = sum(text in known for text in said)
    mosaics = sum(text.split()[:1] == rows[3]["mosaic"].split()[:1] for text in said)
    assert empty + captions + mosaics == 500 and abs(empty - 100) < 40 and abs(captions - 200) < 50
    assert any(text.endswith(known[1]) and text not in known for text in said)


def test_held_out_is_a_tenth_by_a_fixed_rule():
    share = np.mean([is_held_out(concept, style) for concept in CONCEPTS for style in STYLES])
    assert 0.07 < share < 0.14
    assert is_held_out("skull", "fluent-3d") == is_held_out("skull", "fluent-3d")


def test_the_sample_pictures_are_chosen_by_their_rule():
    chosen = samples()
    assert {f"{name}.png" for name in chosen} == {path.name for path in EXAMPLES.glob("*.png")}
    for concept, style in chosen.values():
        before = CONCEPTS[: CONCEPTS.index(concept)]
        assert is_held_out(concept, style) and not any(is_held_out(one, style) for one in before)


@pytest.mark.parametrize("seed", range(60))
def test_captions_are_true(seed):
    rng = np.random.default_rng(seed)
    scene = random_scene(SPRITES, rng)
    name, sentence, dense = captions_of(scene, rng)
    words = {placed.sprite.word for placed in scene.objects}
    assert all(word in caption for word in words for caption in (name, sentence, dense))
    styles = {placed.sprite.style for placed in scene.objects}
    for style, spellings in STYLES.items():
        if any(f"in {spelling}" in sentence for spelling in spellings):
            assert style in styles
        assert (style in styles) == any(f"in {spelling}" in dense for spelling in spellings)
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
    assert set(mosaic_words(pixels)) <= set(word_parts())


@pytest.mark.parametrize("seed", range(40))
def test_drawings_stand_whole_on_the_raster(seed):
    for placed in random_scene(SPRITES, np.random.default_rng(seed)).objects:
        left, top = placed.x - placed.size // 2, placed.y - placed.size // 2
        assert placed.size in SIZES and min(left, top) >= 0 and max(left, top) + placed.size <= SIZE
        offset = (SIZE - placed.size) // 2 if placed.size == SIZES[-1] else 0
        assert (left - offset) % RASTER == (top - offset) % RASTER == 0


def test_whitened_codes_have_variance_one_and_decode_as_before():
    torch.manual_seed(0)
    vae = new_autoencoder(AutoencoderPreset(channels=(8, 8, 8, 8), latent_channels=4))
    with torch.no_grad():  # one channel far fainter than the others
        vae.encoder.conv_out.weight[1] *= 0.05
    pixels = np.stack([random_scene(SPRITES, np.random.default_rng(seed)).render() for seed in range(32)])
    x = to_model(pixels, "cpu")
    with torch.no_grad():
        before = vae.decoder.conv_in(code_of(vae, x))
        whiten(vae, pixels, "cpu")
        code = code_of(vae, x)
        after = vae.decoder.conv_in(code)
        spread = vae.encode(x).latent_dist.std
    assert torch.allclose(code.mean((0, 2, 3)), torch.zeros(4), atol=1e-2)
    assert torch.allclose(code.std((0, 2, 3)), torch.ones(4), atol=1e-2)
    assert spread.max() < 1e-6
    assert torch.allclose(after[..., 1:-1, 1:-1], before[..., 1:-1, 1:-1], atol=1e-4)  # off the zero padding


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
    "threads=1",  # those of two wait for each other while other tests compute
    "compile=false",
    "data.broad_scenes=32",
    "data.focus_scenes=32",
    "data.other_scenes=16",
    "data.held_out_scenes=12",
    "autoencoder.images=64",
    "autoencoder.channels=[8,8,8,8]",
    "autoencoder.batch=16",
    "autoencoder.whitened_images=32",
    "words.images=64",
    "words.batch=16",
    "t2i.unet_channels=[32,32]",
    "t2i.text_width=48",
    "t2i.text_layers=1",
    "t2i.images=32",
    "t2i.raster_images=16",
    "t2i.batch=16",
    "t2i.warmup=1",
    "tower.width=48",
    "tower.layers=1",
    "tower.seen=24",
    "tower.images=48",
    "data.tower_photos=16",
    "tower.batch=16",
    "pooler.batch=16",
    "vilex.run.steps=3",
    "vilex.run.batch_size=8",
    "vilex.optim.warmup_steps=1",
    "vilex.run.sample_every=0",
    "vilex.data.workers=0",
    "baselines.steps=2",
    "baselines.short=3",
    "judge.scenes=24",
    "judge.images=24",
    "judge.batch=12",
    "report.images=12",
    'report.measures=["distance","kid"]',
    "report.subjects=1",
    "report.inversion_steps=2",
    "report.dreambooth_steps=2",
    "report.probed=24",
    "report.ablated=4",
    "report.seeds=1",
    "report.steps=2",
)


UP_TO_EXPORT = ("data", "autoencoder", "words", "t2i", "tower", "pooler", "vilex", "export")


def run_recipe(*words):
    Forked(*words, module="recipes.nano").finish()


@pytest.fixture(scope="module")
def made(tmp_path_factory, data):
    """What the gpu preset leaves after its export."""
    out = tmp_path_factory.mktemp("made")
    small = ("device=cpu", "data.photos=20", "data.held_out_photos=4", *SMALL)
    run_recipe(*UP_TO_EXPORT, "--preset", "gpu", "--data", data, "--out", out, *small)
    return out


def test_the_gpu_preset_makes_a_model(made):
    assert (made / "nano" / "t2i" / "model_index.json").is_file()


def test_an_earlier_recipe_s_model_is_not_gone_on_with(made, tmp_path):
    earlier = tmp_path / "nano"
    shutil.copytree(made / "nano", earlier, ignore=shutil.ignore_patterns("tower"))
    with pytest.raises(InputError, match="an earlier recipe made it"):
        start_from(earlier, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_goes_on_with_a_finished_model(made, data, tmp_path):
    start_from(made / "nano", tmp_path)
    for table in ("scenes", "held-out"):
        (tmp_path / f"{table}.parquet").symlink_to(made / f"{table}.parquet")
    assert encoder_folder(tmp_path, "after") == tmp_path / "start"
    preset = replace(Preset(), vilex=TrainConfig(run=RunConfig(steps=10, batch_size=4)))
    assert shown_by_vilex(preset, tmp_path) == 24  # no head start, and what the finished model's ViLex had seen
    run_recipe("t2i", "vilex", "export", "--preset", "cpu", "--data", data, "--out", tmp_path, *SMALL)
    before, after = (ViLexEncoder.from_pretrained(folder / "nano").config for folder in (made, tmp_path))
    assert (before.training["t2i_images"], after.training["t2i_images"]) == (32, 64)
    assert (before.training["vilex_images"], after.training["vilex_images"]) == (24, 48)
    assert before.training["pooler_images"] == after.training["pooler_images"] == 0
    assert shown_by_vilex(preset, tmp_path) == 24 + 40
    with_head_start = replace(preset, pooler=PoolerPreset(images=32))
    (tmp_path / "pooler").mkdir()  # a head start of its own: ViLex begins with it
    assert begun_encoder(tmp_path) is None and shown_by_vilex(with_head_start, tmp_path) == 32 + 40
    for kept in ("t2i/vae/diffusion_pytorch_model.safetensors", "tower/model.safetensors"):
        weights = [load_file(folder / "nano" / kept) for folder in (made, tmp_path)]
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    changed = [load_file(folder / "nano/t2i/unet/diffusion_pytorch_model.safetensors") for folder in (made, tmp_path)]
    far = max((changed[0][key] - changed[1][key]).abs().max() for key in changed[0])
    assert 0 < far < 0.05
    assert not (tmp_path / "state" / "words.safetensors").exists()


@pytest.mark.parametrize(("tokens", "taught"), [(4, False), (12, True)])
def test_what_captions_say_teaches_the_pooler_and_never_the_tower(made, tmp_path, tokens, taught):
    """The first four tokens are told by captions, those after them by the cells' colours."""
    start_from(made / "nano", tmp_path)
    (tmp_path / "scenes.parquet").symlink_to(made / "scenes.parquet")
    small = [*SMALL, "device=cpu", "precision=fp32", "pooler.images=32", f"vilex.model.num_tokens={tokens}"]
    train_pooler(load_toml(Preset, RECIPE / "gpu.toml", small), tmp_path)
    before = load_tower(str(tmp_path / "tower")).state_dict()
    after = ViLexEncoder.from_pretrained(tmp_path / "pooler")
    assert len(after.pooler.queries) == tokens
    far = max((before[key] - value).abs().max().item() for key, value in after.tower.state_dict().items())
    assert (far > 1e-6) == taught  # averages of what never moves are off by a rounding
    (row,) = map(json.loads, (tmp_path / "logs" / "pooler.jsonl").read_text().splitlines())
    assert ("cells" in row) == taught and row["loss"] == pytest.approx(row["told"] + row.get("cells", 0), abs=1e-4)


def test_a_head_start_goes_on_with_a_finished_encoder_where_it_is_asked_to(made, tmp_path):
    (tmp_path / "scenes.parquet").symlink_to(made / "scenes.parquet")
    (tmp_path / "t2i").symlink_to(made / "t2i")
    small = [*SMALL, "device=cpu", "precision=fp32", "pooler.images=32", "pooler.lr=1e-5", "pooler.go_on=true"]
    preset = load_toml(Preset, RECIPE / "gpu.toml", small)
    with pytest.raises(InputError, match=r"pooler\.go_on: .* run stage start first"):
        train_pooler(preset, tmp_path)
    start_from(made / "nano", tmp_path)
    train_pooler(preset, tmp_path)
    before, after = (ViLexEncoder.from_pretrained(tmp_path / folder).float() for folder in ("start", "pooler"))
    far = [(before.state_dict()[key] - value).abs().max().item() for key, value in after.state_dict().items()]
    assert 0 < max(far) < 0.01
    shown = before.config.training
    assert encoder_images(preset, tmp_path, own=True) == (
        shown["pooler_images"] + 32,
        shown["vilex_images"] + preset.vilex.run.steps * preset.vilex.run.batch_size,
    )


def test_settings_that_a_run_reads_name_a_relative_out_in_full(tmp_path, monkeypatch):
    """Paths of a settings' file are relative to it, those of the command to here."""
    configs = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["nano", "vilex", "--data", "data", "--out", "out", "precision=fp32", "threads=1"])
    monkeypatch.setitem(command.STAGES, "vilex", lambda preset, asked: configs.append(vilex_config(preset, asked.out)))
    command.main()
    (config,) = configs
    named = (config.run.out, config.data.path, config.model.encoder)
    assert named == tuple(str(tmp_path / "out" / name) for name in ("vilex", "scenes.parquet", "pooler"))


def test_two_processes_share_vilex_s_batches(made, tmp_path):
    config = vilex_config(load_toml(Preset, RECIPE / "gpu.toml", ["device=cpu", *SMALL]), made)
    run = replace(config.run, out=str(tmp_path / "shared"), steps=2, mixed_precision="no")
    train_shared(replace(config, run=run), 2)
    own, alone = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "shared", made / "vilex"))
    assert own["run"]["threads"] == 1 and own["run"]["batch_size"] == 8 == alone["run"]["batch_size"]
    assert own["model"] == alone["model"] and own["data"] == alone["data"]
    rows = (tmp_path / "shared" / "log.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["step"] == 2
    assert ViLexEncoder.from_pretrained(tmp_path / "shared" / "encoder").config.training["images"] == 16


def test_heads_are_fitted_to_a_tower_that_is_trained_already():
    torch.manual_seed(0)
    preset = replace(Preset(), tower=TowerPreset(width=48, layers=1))
    student = new_student(preset)
    shown = torch.rand(40, 3, 64, 64) * 2 - 1
    with torch.no_grad():  # a teacher whose features are a linear map of the tower's
        patches = student[0](shown).last_hidden_state
        places = F.normalize(patches @ torch.randn(48, 64) + 3, dim=-1).transpose(1, 2).unflatten(2, (8, 8))
        whole = patches.mean(1) @ torch.randn(48, 1280) + 2
        before = student[1][1](patches.mean(1))
        fit_heads(student, shown, places * 7, whole)  # of places directions count, not lengths
        said = student[1][0](patches).transpose(1, 2).unflatten(2, (8, 8))
        after = student[1][1](patches.mean(1))
    assert F.cosine_similarity(said, places, dim=1).mean() > 0.99
    assert F.mse_loss(after, whole) < 0.05 * whole.var() < F.mse_loss(before, whole)
    assert all(p.requires_grad for p in student.parameters())


def test_every_stage_of_the_cpu_preset_runs_to_the_report(tmp_path, data):
    stages = ("data", "autoencoder+tower,judge", "words", "t2i", "pooler", "vilex", "export", "baselines", "report")
    run_recipe(*stages, "--preset", "cpu", "--data", data, "--out", tmp_path, *SMALL, "pooler.images=32")
    assert (tmp_path / "nano" / "model.safetensors").is_file()
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    rows = results["reconstruction"]["held-out"]["rows"]
    assert {"name", "1 token", "auto-encoder", "brief vilex, 75", "brief de-diffusion", "brief ip-adapter"} <= set(rows)
    page = (tmp_path / "report" / "results.md").read_text()
    assert all(f"## {title}" in page for title in ("The paper's claims", "Table 1", "Table 2", "Subjects", "Table 4"))
    assert page.count("| brief blip-diffusion |") == 2 and (tmp_path / "report" / "images" / "tfg.svg").is_file()
