import gc
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image
from typer.testing import CliRunner

from tests import single_files
from tests.drawings import same
from tests.t2i.test_lora import make_lora
from vilex.cli.app import app
from vilex.data.config import SourceConfig
from vilex.data.example import CaptionedImage
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.eval.picture_store import PictureStore, picture_key
from vilex.eval.reconstruction import evaluate_reconstruction
from vilex.eval.rows import ExampleBatch, Reconstruction, from_encoder, rows_of
from vilex.lexicon import VisualLexicon
from vilex.pictures.fit import square
from vilex.prompt import Prompt
from vilex.t2i import load_t2i


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
    key = picture_key(pictures[3])
    source = Image.open(settings.out / "pictures" / "source" / "0" / f"{key}.png")
    assert source.tobytes() == square(pictures[3], lexicon.t2i.image_size).tobytes()
    (caption,) = (settings.out / "pictures" / "caption" / "1").glob(f"{key}-*.png")
    assert Image.open(caption).size == source.size


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


def test_pictures_are_known_by_content_not_by_place(lexicon, settings, images):
    before, _ = evaluate_reconstruction(lexicon, settings)
    drawn = pictures_in(settings.out / "pictures")
    first = Image.new("RGB", (40, 30), "red")
    first.save(images / "!.png")
    (images / "!.txt").write_text("a red sheet")
    results, _ = evaluate_reconstruction(lexicon, settings)
    assert results["images"] == 9
    store = PictureStore.open(settings.out)
    assert store.load("source", 0, 9)[0].tobytes() == square(first, lexicon.t2i.image_size).tobytes()
    after = pictures_in(settings.out / "pictures")
    assert drawn.items() <= after.items() and len(after) == len(drawn) * 9 // 8
    (images / "!.png").unlink()
    (images / "0.png").rename(images / "z.png")
    (images / "0.txt").rename(images / "z.txt")
    moved, _ = evaluate_reconstruction(lexicon, settings)
    assert moved["images"] == 8 and pictures_in(settings.out / "pictures") == after
    for row, values in before["rows"].items():
        assert moved["rows"][row]["PSNR"]["mean"] == pytest.approx(values["PSNR"]["mean"])


def test_another_caption_is_another_picture(lexicon, settings, images):
    evaluate_reconstruction(lexicon, settings)
    before = pictures_in(settings.out / "pictures")
    (images / "3.txt").write_text("a dog")
    evaluate_reconstruction(lexicon, settings)
    new = pictures_in(settings.out / "pictures").keys() - before.keys()
    assert {path.parts[0] for path in new} == {"caption"} and len(new) == 2  # a seed each


def test_captions_are_words_whatever_brackets_they_hold(lexicon, settings, images):
    caption = "a clock (at 10:30), <two> hands (red:1.5)"
    (images / "3.txt").write_text(caption)
    evaluate_reconstruction(lexicon, replace(settings, counts=(), seeds=(0,)))
    example = CaptionedImage(Image.new("RGB", (8, 8)), (caption,), "3")
    (drawn,) = rows_of(lexicon, settings)["caption"].draw(ExampleBatch([example], torch.empty(0), [7]))
    assert same(drawn, lexicon.generate(Prompt((caption,)), steps=2, seed=7)[0])


def test_noise_is_the_pictures_own(lexicon, settings, images):
    evaluate_reconstruction(lexicon, replace(settings, captions=(), counts=(4,)))
    whole = pictures_in(settings.out / "pictures" / "4-tokens")
    one = replace(settings, captions=(), counts=(4,), out=settings.out.with_name("one"), batch_size=1)
    for i in range(7):
        (images / f"{i}.png").unlink()
    evaluate_reconstruction(lexicon, one)
    alone = pictures_in(one.out / "pictures" / "4-tokens")
    assert len(alone) == 2
    for path, content in alone.items():
        assert same(*(Image.open(io.BytesIO(one)) for one in (content, whole[path])))


def test_pictures_in_memory_do_not_grow_with_the_data(lexicon, settings, monkeypatch):
    most, real = [], PictureStore.read

    def counted(self, row, seed, keys):
        most.append(sum(isinstance(one, Image.Image) for one in gc.get_objects()))
        return real(self, row, seed, keys)

    monkeypatch.setattr("vilex.eval.reconstruction.GRID_ROWS", 1)
    every = ("distance", "rank", "error", "kid")
    settings = replace(settings, features=("lite0",), measures=every, captions=(), seeds=(0,), batch_size=2)
    evaluate_reconstruction(lexicon, settings)
    gc.collect()
    ground = sum(isinstance(one, Image.Image) for one in gc.get_objects())
    monkeypatch.setattr(PictureStore, "read", counted)
    evaluate_reconstruction(lexicon, settings)
    assert len(most) > 20 and max(most) - ground <= 3 * settings.batch_size  # of 8 sources and 24 drawn


def test_several_evaluations_at_once_in_one_folder(lexicon, settings, model_folder):
    """Four at once, begun together; all end well, with the same numbers."""
    settings = replace(settings, captions=(), seeds=(0,))
    with ThreadPoolExecutor(4) as pool:
        lexicons = [VisualLexicon.from_pretrained(model_folder, t2i=None) for _ in range(4)]
        found = list(pool.map(lambda one: evaluate_reconstruction(one, settings)[0], lexicons))
    assert all(one == found[0] for one in found)
    assert json.loads((settings.out / "results.json").read_text()) == found[0]
    assert not list(settings.out.rglob("*.tmp"))


def test_a_damaged_folder_is_named(lexicon, settings):
    settings.out.mkdir()
    (settings.out / "settings.json").write_text('{"cfg": 3.0, "st')
    with pytest.raises(InputError, match=r"settings\.json: not valid JSON; give another folder with -o$"):
        evaluate_reconstruction(lexicon, settings)


def test_encoders_without_a_file_do_not_share_pictures(settings, sd_folder, model_folder):
    encoders = [ViLexEncoder.from_pretrained(model_folder) for _ in range(2)]
    with torch.no_grad():
        encoders[1].pooler.queries.add_(1)
    first, second = (VisualLexicon(one, load_t2i(sd_folder[1])) for one in encoders)
    evaluate_reconstruction(first, settings)
    with pytest.raises(InputError, match="holds pictures of encoder_sha256"):
        evaluate_reconstruction(second, settings)


def test_rows_of_one_folder_are_refused(lexicon, settings):
    same = rows_of(lexicon, settings)["4 tokens"]
    with pytest.raises(InputError, match="two of them have the same folder"):
        evaluate_reconstruction(lexicon, settings, {"4-tokens": same})


def test_other_settings_do_not_mix(lexicon, settings):
    evaluate_reconstruction(lexicon, settings)
    with pytest.raises(InputError, match=r"holds pictures of cfg 3\.0, not 2\.0"):
        evaluate_reconstruction(lexicon, replace(settings, cfg=2.0))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"quantize": "int8"}, "holds pictures of quantize None, not 'int8'"),
        ({"loras": True}, r"holds pictures of loras None, not \[{'sha256': '[0-9a-f]{64}', 'weight': 0.5}\]"),
        ({"checkpoint": True}, r"holds pictures of checkpoint None, not {'sd.safetensors': '[0-9a-f]{64}'}"),
    ],
)
@pytest.mark.filterwarnings("ignore:checkpoint .*is not known")
def test_a_base_model_that_is_changed_does_not_mix_with_itself(
    lexicon, settings, model_folder, sd_folder, tmp_path, how, message
):
    settings = replace(settings, counts=(), captions=(), seeds=(0,))
    evaluate_reconstruction(lexicon, settings)
    if "loras" in how:
        how = {"loras": [(make_lora(sd_folder[1], tmp_path / "lora"), 0.5)]}
    if "checkpoint" in how:
        how = {"checkpoint": single_files.stable_diffusion_1(sd_folder[1], tmp_path / "sd.safetensors")}
    with pytest.raises(InputError, match=message):
        evaluate_reconstruction(VisualLexicon.from_pretrained(model_folder, **how), settings)


def test_a_samplers_options_are_checked_before_a_folder_remembers_them(lexicon, settings):
    with pytest.raises(InputError, match="has no option 'karras'"):
        evaluate_reconstruction(lexicon, replace(settings, scheduler="dpm++:karras=true"))
    with pytest.raises(InputError, match="scheduler: expected a text"):
        evaluate_reconstruction(lexicon, replace(settings, scheduler=DDIMScheduler()))
    settings = replace(settings, scheduler="dpm++:use_karras_sigmas=true", counts=(), captions=())
    assert evaluate_reconstruction(lexicon, settings)[0]["settings"]["scheduler"] == settings.scheduler
    with pytest.raises(InputError, match=r"holds pictures of scheduler 'dpm.*true', not 'dpm.*'"):
        evaluate_reconstruction(lexicon, replace(settings, scheduler="dpm++"))


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
    with pytest.raises(InputError, match=r"0\.png: 1 captions, at least 2 expected; .*--captions 0"):
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


@pytest.mark.parametrize(
    ("measure", "first", "message"),
    [
        ("fid", None, "at least 2560 images needed, got 8"),
        ("kid", 3, "at least 4 images needed, got 3; give more, or leave kid out"),
        ("is", None, "at least 100 images needed, got 8; give more, or leave is out"),
    ],
)
def test_too_few_pictures_for_a_measure_are_said_before_any_is_drawn(lexicon, settings, measure, first, message):
    with pytest.raises(InputError, match=message):
        evaluate_reconstruction(
            lexicon, replace(settings, features=("lite0",), measures=("psnr", measure), images=first)
        )
    assert not settings.out.exists()


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


def test_a_folder_among_the_data_is_refused(lexicon, settings, images):
    with pytest.raises(InputError, match=r"-o: .* lies in the data, .* would be read as data"):
        evaluate_reconstruction(lexicon, replace(settings, out=images / "results"))
    assert not (images / "results").exists()
