"""Pictures that are not square, from files to tokens and wherever tokens go."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tests.data.samples import loader
from vilex.bulk.encode import EncodingJob, encode_collection, on_devices
from vilex.bulk.shard import load_shard, read_contents, write_shard
from vilex.cli.app import app
from vilex.data import open_sources
from vilex.data.config import DataConfig, SourceConfig
from vilex.encoder import ViLexEncoder, load_encoder
from vilex.errors import InputError
from vilex.eval.reconstruction import evaluate_reconstruction
from vilex.eval.reference import write_reference
from vilex.eval.rows import Reconstruction
from vilex.hub.card import model_card
from vilex.hub.export import export_encoder
from vilex.lexicon import VisualLexicon
from vilex.pictures.fit import FITS, FitWarning, fitted, square
from vilex.pictures.pixels import to_pixels
from vilex.tokens import load_tokens
from vilex.train.loop import train
from vilex.train.models import encoder_shape


@pytest.fixture
def wide(pictures):
    """96 x 32: three pictures side by side."""
    image = Image.new("RGB", (96, 32))
    for i, picture in enumerate(pictures[:3]):
        image.paste(picture, (32 * i, 0))
    return image


@pytest.fixture
def lexicon(sd_folder, model_folder):
    return VisualLexicon.from_pretrained(model_folder, t2i=sd_folder[1])


@pytest.mark.filterwarnings("ignore::vilex.pictures.fit.FitWarning")
@pytest.mark.parametrize("fit", FITS)
def test_tokens_are_those_of_the_fitted_picture(lexicon, wide, fit):
    expected = lexicon.encode([square(wide, lexicon.encoder.config.image_size, fit)])
    assert torch.allclose(lexicon.encode([wide], fit=fit), expected, atol=1e-5)
    how = {"steps": 1, "seed": 3}
    drawn = lexicon.generate("<it:4>", {"it": expected[0]}, **how)[0].tobytes()
    assert lexicon.generate("<it:4>", {"it": wide}, fit=fit, **how)[0].tobytes() == drawn
    assert lexicon.reconstruct(wide, 4, fit=fit, **how)[0].tobytes() == drawn
    own = lexicon.prompt_embeds("<it:4>", {"it": wide}, fit=fit)["prompt_embeds"]
    assert torch.allclose(own, lexicon.prompt_embeds("<it:4>", {"it": expected[0]})["prompt_embeds"], atol=1e-5)
    lexicon.encoder.config.fit = fit
    assert torch.allclose(lexicon.encode([wide]), lexicon.encode([wide], fit=fit), atol=1e-5)


def test_the_crop_is_the_default_and_tells_apart(lexicon, wide):
    with pytest.warns(
        FitWarning, match="image 'it': more than a third is cut away around the middle square; fit pad or squash"
    ):
        lexicon.generate("<it:4>", {"it": wide}, steps=1)
    found = [lexicon.encode([wide], fit=fit) for fit in FITS]
    assert not torch.allclose(found[0], found[1]) and not torch.allclose(found[1], found[2])


def test_one_hint_for_all_pictures_and_none_for_what_little_is_cut(lexicon, wide):
    little = wide.resize((60, 41))
    with pytest.warns(FitWarning) as said:
        lexicon.encode([little, *[wide] * 17])
    assert [str(one.message) for one in said] == [
        "17 of 18 pictures, image 1 the first: more than a third is cut away around the middle square; fit pad or "
        "squash keeps all of it"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lexicon.encode([little])
        lexicon.encode([wide], fit="pad")


def test_a_fit_that_is_none_is_named(lexicon, wide, model_folder, tmp_path):
    with pytest.raises(InputError, match="fit: expected crop, pad or squash, got 'stretch'"):
        lexicon.encode([wide], fit="stretch")
    with pytest.raises(InputError, match="fit: expected crop, pad or squash, got 3"):
        lexicon.generate("<it>", {"it": wide}, fit=3)
    lexicon.encoder.save_pretrained(tmp_path / "encoder")
    file = tmp_path / "encoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"fit": "stretch"}))
    with pytest.raises(InputError, match=r"encoder: fit: expected crop, pad or squash, got 'stretch'"):
        load_encoder(tmp_path / "encoder")


def test_token_files_record_it_and_are_used_as_they_are(wide, model_folder, tmp_path):
    wide.save(tmp_path / "wide.png")
    for name, more in {"own": [], "padded": ["--fit", "pad"]}.items():
        words = ["encode", tmp_path / "wide.png", "--model", model_folder, "-o", tmp_path / f"{name}.safetensors"]
        done = CliRunner().invoke(app, [*map(str, words), *more, "--quiet"])
        assert done.exit_code == 0
    own, padded = (load_tokens(tmp_path / f"{name}.safetensors") for name in ("own", "padded"))
    assert own.provenance["wide"]["fit"] == "crop" and padded.provenance["wide"]["fit"] == "pad"
    lexicon = VisualLexicon.from_pretrained(model_folder)
    assert torch.allclose(padded.tokens["wide"], lexicon.encode([wide], fit="pad")[0], atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = lexicon.tokens_of({"it": tmp_path / "padded.safetensors"}, "squash")["it"]
    assert torch.equal(found, padded.tokens["wide"])


def test_the_command_line_draws_and_records_it(wide, model_folder, tmp_path):
    wide.save(tmp_path / "wide.png")
    how = ["--model", str(model_folder), "--steps", "1", "--quiet"]
    words = ["generate", "<it:4>", "--image", f"it={tmp_path / 'wide.png'}", *how, "-o", str(tmp_path / "a")]
    assert CliRunner().invoke(app, [*words, "--fit", "squash"]).exit_code == 0
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["fit"] == "squash"
    drawn = Image.open(tmp_path / "a" / "000.png")
    expected = VisualLexicon.from_pretrained(model_folder).generate("<it:4>", {"it": wide}, fit="squash", steps=1)[0]
    assert json.loads(drawn.text["vilex"])["fit"] == "squash" and drawn.tobytes() == expected.tobytes()
    words = ["reconstruct", str(tmp_path / "wide.png"), *how, "--tokens", "4", "--num-images", "1"]
    assert CliRunner().invoke(app, [*words, "--fit", "pad", "-o", str(tmp_path / "b")]).exit_code == 0
    grid = np.asarray(Image.open(tmp_path / "b" / "wide-grid.png"))
    assert (grid[24:45, 8:90] > 230).all() and not (grid[60:80, 8:90] > 230).all()  # the source, with its margins
    done = CliRunner().invoke(app, [*words, "--fit", "stretch", "-o", str(tmp_path / "c")])
    assert "--fit: expected crop, pad or squash, got 'stretch'" in str(done.exception)


def test_a_collection_records_it_and_is_not_mixed(wide, images, model_folder, tmp_path):
    for path in images.glob("*.png"):
        wide.save(path)
    made = {}
    for fit in (None, "pad"):
        job = EncodingJob(SourceConfig(path=str(images)), tmp_path / str(fit), str(model_folder), 4, fit)
        if fit is None:
            with pytest.warns(FitWarning, match="8 of 8 pictures, 0.png the first: more than a third is cut away"):
                encode_collection(job, on_devices(["cpu"]))
        else:
            encode_collection(job, on_devices(["cpu"]))
        made[fit] = load_shard(job.path(0))
    assert made[None].origin["fit"] == "crop" and made["pad"].origin["fit"] == "pad"
    expected = VisualLexicon.from_pretrained(model_folder).encode([wide], 4, "pad")[0]
    assert torch.allclose(made["pad"].tokens[0].float(), expected, atol=2e-3)
    other = EncodingJob(SourceConfig(path=str(images)), tmp_path / "pad", str(model_folder), 4)
    with pytest.raises(InputError, match="made with other settings \\(fit 'pad' there, 'crop' now\\)"):
        encode_collection(other, on_devices(["cpu"]))
    path = tmp_path / "None" / "tokens-000000.safetensors"
    contents, tokens = read_contents(path), load_shard(path).tokens
    contents.origin.pop("fit")  # as versions wrote it that only cropped
    write_shard(path, tokens, contents)
    same = EncodingJob(SourceConfig(path=str(images)), tmp_path / "None", str(model_folder), 4)
    assert encode_collection(same, on_devices(["cpu"]))[0] == 8


@pytest.mark.filterwarnings("ignore::vilex.pictures.fit.FitWarning")
def test_an_evaluation_compares_with_what_was_fitted(lexicon, wide, tmp_path):
    (tmp_path / "data").mkdir()
    for i in range(2):
        wide.rotate(180 * i).save(tmp_path / "data" / f"{i}.png")
    settings = Reconstruction(
        SourceConfig(path=str(tmp_path / "data")), tmp_path / "out", counts=(4,), captions=(), features=(),
        measures=("psnr",), steps=1, fit="squash",
    )  # fmt: skip
    results, _ = evaluate_reconstruction(lexicon, settings)
    assert results["settings"]["fit"] == "squash"
    expected = {square(wide.rotate(180 * i), lexicon.t2i.image_size, "squash").tobytes() for i in range(2)}
    found = {Image.open(one).tobytes() for one in (tmp_path / "out" / "pictures" / "source").rglob("*.png")}
    assert len(expected) == 2 and found == expected
    about, _ = write_reference(settings.source, tmp_path / "r.safetensors", "lite0", 16, fit="pad")
    cropped, _ = write_reference(settings.source, tmp_path / "c.safetensors", "lite0", 16)
    assert about["fit"] == "pad" and about["pictures_sha256"] != cropped["pictures_sha256"]


@pytest.mark.filterwarnings("ignore::vilex.pictures.fit.FitWarning")
def test_training_learns_by_it_and_the_encoder_keeps_it(wide, configure, images, tmp_path):
    for path in images.glob("*.png"):
        wide.save(path)
    small = {"num_tokens": 4, "blocks": 1, "heads": 1}
    how = {"model": small, "optim": {"name": "adamw", "warmup_steps": 0}}
    config = configure(**how, data={"path": str(images), "fit": "pad"}, run={"steps": 1, "batch_size": 2})
    lexicon = VisualLexicon.from_pretrained(train(config, quiet=True))
    assert lexicon.fit == "pad" and torch.allclose(lexicon.encode([wide]), lexicon.encode([wide], fit="pad"), atol=1e-5)
    assert encoder_shape(config, lexicon.t2i).config.fit == "pad"
    further = {"model": {"encoder": str(tmp_path / "run" / "encoder"), **small}}
    more = configure(
        **further, data={"path": str(images)}, run={"steps": 1, "batch_size": 2, "out": str(tmp_path / "2")}
    )
    assert load_encoder(train(more, quiet=True)).config.fit == "pad"


def test_batches_are_fitted_for_both_models(wide, images):
    for path in images.glob("*.png"):
        wide.save(path)
    config = DataConfig(path=str(images))
    for fit in FITS:
        (batch,) = loader(open_sources(config), config, steps=1, fit=fit)
        assert torch.equal(batch.pixels[0], to_pixels(fitted(wide, 16, 16, fit)))


def test_exports_and_cards_say_it(model_folder, tmp_path):
    encoder = ViLexEncoder.from_pretrained(model_folder)
    assert "| pictures that are not square | cut to the middle |" in model_card(encoder.config, "a/b")
    encoder.config.fit = "pad"
    about = export_encoder(encoder, tmp_path / "encoder.pt2", "torch")["preprocessing"]
    assert about["fit"] == "pad" and about["pad"] == "white, to a square" and "crop" not in about
    assert "| pictures that are not square | padded with white |" in model_card(encoder.config, "a/b")


def test_older_encoders_crop(model_folder, tmp_path):
    encoder = ViLexEncoder.from_pretrained(model_folder)
    encoder.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != "fit"}))
    assert load_encoder(tmp_path).config.fit == "crop"
