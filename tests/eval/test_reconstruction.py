import json
from dataclasses import replace

import pytest
from PIL import Image
from typer.testing import CliRunner

from vilex.cli.app import app
from vilex.data.config import SourceConfig
from vilex.errors import InputError
from vilex.eval.reconstruction import Reconstruction, evaluate_reconstruction, from_encoder, rows_of
from vilex.lexicon import VisualLexicon
from vilex.pictures.load import square


@pytest.fixture
def lexicon(model_folder):
    return VisualLexicon.from_pretrained(model_folder)


@pytest.fixture
def settings(images, tmp_path):
    return Reconstruction(
        SourceConfig(path=str(images)), tmp_path / "out", counts=(1, 4), steps=2, batch_size=3, seeds=(0, 1),
        features=(), measures=("psnr",),
    )  # fmt: skip


def pictures_in(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_rows_measures_and_files(lexicon, settings, pictures):
    every = ("distance", "rank", "error", "psnr", "ssim", "kid")
    settings = replace(settings, features=("lite0",), measures=every)
    results, refused = evaluate_reconstruction(lexicon, settings)
    assert list(results["rows"]) == ["caption", "1 token", "4 tokens", "auto-encoder"] and not refused
    assert set(results["rows"]["caption"]) == {
        "lite0 distance", "lite0 rank", "squared error", "PSNR", "SSIM", "lite0 kernel distance",
    }  # fmt: skip
    assert len(results["rows"]["1 token"]["PSNR"]["seeds"]) == 2
    assert json.loads((settings.out / "results.json").read_text()) == results
    assert "| 4 tokens |" in (settings.out / "results.md").read_text()
    assert (settings.out / "curves.svg").read_text().count("<svg") == 1
    source = Image.open(settings.out / "pictures" / "source" / "0" / "000003.png")
    assert source.tobytes() == square(pictures[3], lexicon.t2i.image_size).tobytes()
    caption = Image.open(settings.out / "pictures" / "caption" / "1" / "000003.png")
    assert caption.size == source.size


def test_an_interrupted_evaluation_goes_on_to_the_same_pictures(lexicon, settings, tmp_path):
    evaluate_reconstruction(lexicon, settings)
    whole = pictures_in(settings.out / "pictures")

    def interrupt(done, _):
        if done > 3:
            raise KeyboardInterrupt

    second = replace(settings, out=tmp_path / "second")
    with pytest.raises(KeyboardInterrupt):
        evaluate_reconstruction(lexicon, second, on_picture=interrupt)
    done = {path: path.stat().st_mtime_ns for path in (second.out / "pictures").rglob("*.png")}
    assert 0 < len(done) < len(whole)
    evaluate_reconstruction(lexicon, second)
    assert pictures_in(second.out / "pictures") == whole
    assert all(path.stat().st_mtime_ns == at for path, at in done.items())


def test_other_settings_do_not_mix(lexicon, settings):
    evaluate_reconstruction(lexicon, settings)
    with pytest.raises(InputError, match=r"holds pictures of cfg 3\.0, not 2\.0"):
        evaluate_reconstruction(lexicon, replace(settings, cfg=2.0))


def test_further_rows_are_measured_like_the_others(lexicon, settings):
    same = rows_of(lexicon, settings)["4 tokens"]
    rows = evaluate_reconstruction(lexicon, settings, {"a baseline": same})[0]["rows"]
    assert rows["a baseline"] == rows["4 tokens"]


def test_another_encoder_is_a_row_whose_pictures_are_its_own(lexicon, settings, model_folder):
    other = VisualLexicon.from_pretrained(model_folder)
    row = from_encoder(other, settings, 4)
    rows = evaluate_reconstruction(lexicon, settings, {"other": row})[0]["rows"]
    assert rows["other"] == rows["4 tokens"]
    assert (settings.out / "pictures" / f"other-{other.encoder_sha256[:8]}" / "0").is_dir()
    assert row.place("other") != replace(row, made_by="1234567890").place("other")


def test_captions_that_are_missing_are_named(lexicon, settings):
    two = replace(settings, captions=("first", "second"))
    with pytest.raises(InputError, match=r"0\.png: 1 captions, at least 2 expected"):
        evaluate_reconstruction(lexicon, two)


def test_a_source_that_is_not_there_leaves_no_folder(lexicon, settings):
    with pytest.raises(InputError, match="no such folder"):
        evaluate_reconstruction(lexicon, replace(settings, source=SourceConfig(path="nowhere")))
    assert not settings.out.exists()


def test_command_line_refuses_bad_pictures_after_the_good_ones(images, tmp_path, model_folder):
    (images / "9.png").write_bytes(b"no picture")
    words = ["eval", "reconstruction", str(images), "-o", str(tmp_path / "out"), "--model", str(model_folder)]
    words += ["--captions", "0", "--tokens", "1", "--steps", "2", "--measures", "distance,psnr", "--json"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 2 and "9.png" in said.stderr
    summary = json.loads(said.stdout)
    assert summary["images"] == 8 and len(summary["refused_files"]) == 1
    assert list(summary["rows"]["1 token"]) == ["lite0 distance", "PSNR"]


def test_fid_of_too_few_says_how_many(lexicon, settings):
    with pytest.raises(InputError, match="at least 2560 images needed, got 8"):
        evaluate_reconstruction(lexicon, replace(settings, features=("lite0",), measures=("fid",)))


def test_reference_statistics_are_those_of_the_pictures(images, tmp_path, lexicon, settings):
    said = CliRunner().invoke(
        app, ["eval", "reference", str(images), "-o", str(tmp_path / "r.safetensors"), "--size", "32", "--json"]
    )
    about = json.loads(said.stdout)
    assert said.exit_code == 0 and about["count"] == 8 and about["features"] == "lite0"
    with pytest.raises(InputError, match="got 8"):  # read, and then found too small
        evaluate_reconstruction(
            lexicon,
            replace(settings, features=("lite0",), measures=("fid",), reference=tmp_path / "r.safetensors"),
        )
