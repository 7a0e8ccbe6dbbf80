"""Every command as a user runs it, on the embedded model."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import vilex
from tests.drawings import same
from tests.forked import Forked
from vilex.cli import main, options
from vilex.hub.folder import file_hash
from vilex.lexicon import VisualLexicon
from vilex.tokens import load_tokens, save_tokens


@pytest.fixture
def run(capsys, monkeypatch):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["vilex", *map(str, arguments)])
        try:
            status = main() or 0
        except SystemExit as end:
            status = end.code or 0
        out = capsys.readouterr()
        return status, out.out, out.err

    return call


@pytest.fixture
def files(tmp_path, pictures):
    paths = []
    for i, picture in enumerate(pictures[:2]):
        paths.append(tmp_path / f"picture{i}.png")
        picture.save(paths[-1])
    return paths


def test_encode_writes_tokens_with_provenance(run, files, tmp_path):
    out = tmp_path / "deep" / "tokens.safetensors"
    status, text, _ = run("encode", *files, "-o", out, "--tokens", 16, "--json")
    assert status == 0 and json.loads(text)["tokens"][0] == 16
    kept = load_tokens(out)
    assert set(kept.tokens) == {"picture0", "picture1"} and len(kept.provenance["picture0"]["sha256"]) == 64


def test_generate_from_image_and_from_tokens(run, files, tmp_path):
    settings = ["--steps", 3, "--num-images", 2, "--cfg", 2, "--tfg", 3, "--negative", "red", "--seed", 5, "--quiet"]
    assert run("generate", "a <it:4> in the snow", "--image", f"it={files[0]}", *settings, "-o", tmp_path / "a")[0] == 0
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert [file["file"] for file in manifest["files"]] == ["000.png", "001.png"] and manifest["seed"] == 5
    picture = Image.open(tmp_path / "a" / "001.png")
    assert picture.size == (64, 64)
    inside = json.loads(picture.text["vilex"])
    assert (inside["seed"], inside["prompt"], inside["tfg"]) == (6, "a <it:4> in the snow", 3)
    assert inside["image_sha256"] == {"it": file_hash(files[0])} and inside["base_sha256"] == manifest["base_sha256"]
    assert (inside["base"], inside["device"], len(inside["base_sha256"])) == ("t2i", "cpu", 3)
    run("encode", *files, "-o", tmp_path / "t.safetensors", "--quiet")
    source = f"it={tmp_path / 't.safetensors'}#picture0"
    assert run("generate", "a <it:4> in the snow", "--image", source, *settings, "-o", tmp_path / "b")[0] == 0
    assert same(Image.open(tmp_path / "b" / "001.png"), picture)


def test_weight_zero_and_scale(run, files, tmp_path):
    run("generate", "a cat", "--steps", 2, "-o", tmp_path / "words", "--quiet")
    run("generate", "a cat <it>", "--image", f"it={files[0]}", "--weight", "it=0", "--steps", 2, "--scale", 2,
        "-o", tmp_path / "zero", "--quiet")  # fmt: skip
    words = Image.open(tmp_path / "words" / "000.png")
    zero = Image.open(tmp_path / "zero" / "000.png")
    assert zero.size == (128, 128)
    assert same(words.resize((128, 128), Image.Resampling.LANCZOS), zero, within=2)


def test_a_size_is_drawn_and_recorded(run, files, tmp_path):
    how = ["--image", f"it={files[0]}", "--steps", 2, "--start", files[1], "--out", tmp_path / "a"]
    status, _, err = run("generate", "a <it:4>", *how, "--size", "97x48", "--scale", 2)
    assert status == 0 and "warning: size 97x48: drawn as 96x48, in multiples of 8 pixels" in err
    assert err.count("97x48") == 1
    picture, manifest = Image.open(tmp_path / "a" / "000.png"), json.loads((tmp_path / "a/manifest.json").read_text())
    assert picture.size == (192, 96)
    for about in (json.loads(picture.text["vilex"]), manifest):
        assert about["size"] == [96, 48] and about["scale"] == 2
    how = ["--tokens", 1, "--num-images", 2, "--steps", 1, "--quiet", "-o", tmp_path / "b"]
    assert run("reconstruct", files[0], *how, "--size", "48X96")[0] == 0
    assert Image.open(tmp_path / "b" / "picture0-01-1.png").size == (48, 96)
    grid = Image.open(tmp_path / "b" / "picture0-grid.png")
    assert grid.height > 2 * grid.width * 0.9
    run("generate", "cat", "--steps", 1, "--quiet", "-o", tmp_path / "c")
    assert json.loads((tmp_path / "c" / "manifest.json").read_text())["size"] == [64, 64]


@pytest.mark.parametrize(
    ("size", "line"),
    [
        ("2", "--size: expected WIDTHxHEIGHT, as in 768x512, got 2; to write pictures 2 times larger: --scale 2"),
        ("wide", "--size: expected WIDTHxHEIGHT, as in 768x512, got 'wide'"),
        ("64x", "--size: expected WIDTHxHEIGHT"),
        ("64x-64", "--size: expected WIDTHxHEIGHT"),
        ("0x64", "--size: width: expected a whole number from 8 to 8192, got 0"),
        ("64x99999", "--size: height: expected a whole number from 8 to 8192, got 99999"),
    ],
)
def test_sizes_that_are_none_are_named(run, size, line, tmp_path):
    for command in (("generate", "cat"), ("reconstruct", "x.png")):
        status, _, err = run(*command, "--size", size, "-o", tmp_path / "o")
        assert status == 2 and line in err and not (tmp_path / "o").exists()


def test_a_picture_to_start_from(run, files, tmp_path):
    half = Image.new("L", (32, 32))
    half.paste(255, (16, 0, 32, 32))
    half.save(tmp_path / "half.png")
    how = ["generate", "a cat", "--start", files[0], "--steps", 4, "--quiet"]
    assert run(*how, "--strength", 0.25, "-o", tmp_path / "near")[0] == 0
    assert run(*how, "--mask", tmp_path / "half.png", "-o", tmp_path / "half")[0] == 0
    source = np.asarray(Image.open(files[0]).resize((64, 64)), dtype=float)
    near, inside = (np.asarray(Image.open(tmp_path / name / "000.png"), dtype=float) for name in ("near", "half"))
    away = np.abs(inside - source)
    assert np.abs(near - source).mean() < away[:, 32:].mean() and away[:, :24].mean() < away[:, 32:].mean() / 2
    manifest = json.loads((tmp_path / "half" / "manifest.json").read_text())
    assert manifest["mask"].endswith("half.png") and manifest["strength"] is None


def test_half_precision_and_parts_that_wait(run, files, tmp_path):
    how = ["generate", "<it:16>", "--image", f"it={files[0]}", "--steps", 4, "--quiet"]
    for name, more in {"whole": [], "half": ["--dtype", "bfloat16", "--offload", "sequential"]}.items():
        assert run(*how, *more, "-o", tmp_path / name)[0] == 0
    whole, half = (np.asarray(Image.open(tmp_path / name / "000.png"), dtype=float) for name in ("whole", "half"))
    assert 0 < np.abs(whole - half).mean() < 8


def test_reconstruct_does_the_good_ones_and_lists_the_bad(run, files, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    status, _, err = run("reconstruct", bad, *files, tmp_path / "none.jpg", "--tokens", "1,4", "--num-images", 1,
                         "--steps", 2, "-o", tmp_path / "out")  # fmt: skip
    assert status == 2 and "bad.png" in err and "none.jpg" in err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"picture0-grid.png", "picture1-grid.png", "picture1-04-0.png", "manifest.json"} <= names
    assert len(json.loads((tmp_path / "out" / "manifest.json").read_text())["refused"]) == 2


def test_reconstruct_from_tokens_of_any_length(run, files, tmp_path):
    run("encode", *files, "-o", tmp_path / "t.safetensors", "--tokens", 16, "--quiet")
    how = ["--num-images", 1, "--steps", 2, "--quiet"]
    assert run("reconstruct", f"{tmp_path}/t.safetensors#picture1", files[0], *how, "-o", tmp_path / "out")[0] == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"picture1-16-0.png", "picture1-grid.png", "picture0-75-0.png"} <= names and "picture1-75-0.png" not in names
    status, _, err = run("reconstruct", tmp_path / "t.safetensors", "--tokens", 75, *how, "-o", tmp_path / "no")
    assert status == 2 and "--tokens 75: expected 1 to 16" in err
    tokens = load_tokens(tmp_path / "t.safetensors")
    alien = {name: {**about, "encoder_sha256": "0" * 64} for name, about in tokens.provenance.items()}
    save_tokens(tmp_path / "alien.safetensors", tokens.tokens, alien)
    status, _, err = run("reconstruct", tmp_path / "alien.safetensors", files[0], *how, "-o", tmp_path / "two")
    assert status == 2 and "tokens of another encoder" in err and (tmp_path / "two" / "picture0-grid.png").is_file()
    source = f"it={tmp_path / 'alien.safetensors'}#picture0"
    status, out, err = run("generate", "<it>", "--image", source, "-o", tmp_path / "three")
    assert status == 2 and err.count("\n") == 1 and "tokens of another encoder" in err and not out


def test_same_names_do_not_overwrite(run, files, tmp_path):
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / files[0].name
    Image.open(files[1]).save(twin)
    run("encode", files[0], twin, "-o", tmp_path / "t.safetensors", "--quiet")
    assert set(load_tokens(tmp_path / "t.safetensors").tokens) == {"picture0", "picture0~2"}


def test_info(run):
    status, text, _ = run("info", "--json")
    facts = json.loads(text)
    assert status == 0 and facts["tokens"] == 75 and facts["prediction"] == "v_prediction"


def test_info_names_a_models_version_where_it_has_one(run, model_folder, tmp_path):
    assert "version" not in json.loads(run("info", model_folder, "--json")[1])
    folder = shutil.copytree(model_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"version": "2.1"}))
    assert json.loads(run("info", folder, "--json")[1])["version"] == "2.1"
    assert "version  2.1\n" in run("info", folder)[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "a <cat>"], "<cat> has no image"),
        (["generate", "a cat", "--scheduler", "magic"], "use one of"),
        (["generate", "a cat", "--image", "cat"], "expected NAME=VALUE"),
        (["generate", "a cat", "--weight", "cat=much"], "--weight cat=much: expected a number"),
        (["generate", "a cat", "--model", "./none"], "no such model folder"),
        (["generate", "a cat", "--start", "none.png"], "none.png: no such file"),
        (["generate", "a cat", "--start", "{0}", "--strength", "0"], "strength 0: expected"),
        (["generate", "a cat", "--mask", "{0}"], "--mask: of a picture to begin from; name it with --start"),
        (["generate", "a cat", "--strength", "0.5"], "--strength: of a picture to begin from"),
        (["encode", "--data", "none"], "--data none: no such folder"),
        (["eval", "reconstruction", "none"], "error: none: no such folder"),
        (["eval", "reference", "none", "-o", "r.safetensors"], "error: none: no such folder"),
        (["eval", "subject", ".", "--prompts", "none.txt", "--model", "./none"], "none.txt"),
        (["generate", "a cat", "--dtype", "half"], "expected float32, bfloat16, float16"),
        (["generate", "a cat", "--offload", "disk"], "expected model or sequential"),
        (["generate", "<x:40><y:40>", "--image", "x={0}", "--image", "y={0}"], "at most 75 image tokens"),
        (["encode", "none.png"], "none.png: no such file"),
        (["encode", "a" * 5000], "File name too long"),
        (["generate", "<x>", "--image", "x=" + "a" * 5000], "File name too long"),
        (["encode", "{0}", "-o", "a" * 5000], "cannot be written (File name too long)"),
        (["reconstruct", "{0}", "--tokens", "0"], "expected 1 to 75"),
        (["reconstruct", "{0}", "--tokens", "a"], "expected whole numbers"),
        (["train", "none.toml"], "none.toml"),
        (["info", "./none"], "no such model folder"),
    ],
)
def test_mistakes_are_one_line_and_status_two(run, files, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*[argument.format(*files) for argument in arguments])
    assert status == 2 and message in err and err.strip().count("\n") == 0 and not out


def test_help_and_version(run):
    for words in (["-h"], ["--help"], ["generate", "-h"], ["eval", "subject", "-h"]):
        status, out, _ = run(*words)
        assert status == 0 and "Usage" in out
    assert run("--version")[:2] == (0, f"vilex {vilex.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate"], "Missing argument 'prompt'"),
        (["generate", "a cat", "--steps", "0"], "'--steps': Input should be greater than or equal to 1"),
        (["generate", "a cat", "--steps", "many"], "'--steps'"),
        (["generate", "a cat", "--nope", "1"], "No such option: --nope"),
        (["generate", "a cat", "--num-images", "1" + "0" * 15], "'--num-images': Input should be less"),
        (["generate", "a cat", "--cfg", "nan"], "'--cfg': Input should be"),
        (["generate", "a cat", "--tfg", "-inf"], "'--tfg': Input should be"),
        (["generate", "a cat", "--seed", "-5"], "'--seed': Input should be"),
        (
            ["generate", "a cat <it>", "--image", "it={0}", "--weight", "it=nan"],
            "--weight it=nan: expected a number from",
        ),
        (["generate", "a cat <it>", "--image", "it={0}", "--image", "it={1}"], "'it' is given twice"),
        (["reconstruct", "{0}", "--tokens", "4,-1"], "--tokens -1: expected 0 to"),
        (["eval", "reconstruction", ".", "--seeds", "-1"], "--seeds -1: expected 0 to"),
        (["draw"], "No such command 'draw'"),
        (["generate", "a cat", "--device", "gpu"], "--device: 'gpu' is no device; expected cpu, cuda"),
        (["generate", "a cat", "--device", "cuda:99"], "--device: no device 'cuda:99' here; expected cpu"),
        (["generate", "a cat", "-o", "{0}"], "is a file; give another folder with -o"),
        (["reconstruct", "{0}", "-o", "{0}"], "is a file; give another folder with -o"),
        (["export", "-o", "{0}"], "expected a name that ends in .onnx or .pt2"),
        (["eval", "reconstruction", ".", "-o", "{0}"], "is a file; give another folder with -o"),
        (["eval", "reference", ".", "-o", "."], "expected a name that ends in .safetensors"),
        (["eval", "reference", ".", "-o", "{0}/x.safetensors"], "is a file; give another folder with -o"),
        (["eval", "reference", ".", "--device", "gpu"], "--device: 'gpu' is no device"),
        (["info", "{0}"], "a file; expected a model's folder"),
        (["info", ""], "expected a model's name"),
    ],
)
def test_usage_and_targets_are_one_line_too(run, files, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    status, out, err = run(*[argument.format(*files) for argument in arguments])
    assert status == 2 and message in err and err.strip().count("\n") == 0 and not out
    assert sorted(tmp_path.iterdir()) == before


def test_ctrl_c_keeps_what_is_finished(run, tmp_path, monkeypatch):
    monkeypatch.setattr("vilex.cli.reconstruction.AT_ONCE", 2)
    generate = VisualLexicon.generate

    def press_in_the_second_batch(self, *words, seed, **more):
        if seed:
            raise KeyboardInterrupt
        return generate(self, *words, seed=seed, **more)

    monkeypatch.setattr(VisualLexicon, "generate", press_in_the_second_batch)
    status, _, err = run("generate", "a cat", "--num-images", 5, "--steps", 2, "-o", tmp_path / "out")
    assert status == 130 and "stopped: 2 of 5 pictures" in err and err.strip().count("\n") == 0
    content = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert content["missing"] == ["002.png", "003.png", "004.png"] and len(content["files"]) == 2
    monkeypatch.setattr(VisualLexicon, "generate", generate)
    assert run("generate", "a cat", "--num-images", 5, "--steps", 2, "-o", tmp_path / "out", "--quiet")[0] == 0
    first, again = (Image.open(tmp_path / "out" / name) for name in ("001.png", "001~2.png"))
    assert same(first, again) and (tmp_path / "out" / "004~2.png").is_file()


def test_names_that_are_not_utf8(files, tmp_path):
    """As a shell hands them over: bytes."""
    odd = os.fsencode(tmp_path) + b"/caf\xe9.png"
    os.rename(files[0], odd)
    words = ["reconstruct", odd, odd + b"2", "--tokens", 1, "--num-images", 1, "--steps", 1]
    done = Forked(*words, "--json", "-o", os.fsencode(tmp_path) + b"/\xff")
    assert done.wait() == 2 and done.stderr.count("\n") == 1 and r"caf\udce9.png2: no such file" in done.stderr
    assert [file["tokens"] for file in json.loads(done.stdout)["files"]] == [1, [1]]
    assert len(os.listdir(os.fsencode(tmp_path) + b"/\xff")) == 3


def test_help_does_not_wait_for_torch():
    code = "import sys; import vilex.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_folder_that_is_a_file_is_named_once(run, files):
    error = run("generate", "a cat", "-o", files[0])[2]
    assert error.count(str(files[0])) == 1


def test_info_says_each_fact_in_a_line_of_its_own(run):
    lines = run("info")[1].splitlines()
    assert not any("{" in line for line in lines) and sum("training." in line for line in lines) > 2


def test_progress_without_a_terminal_is_a_line_now_and_then(monkeypatch, capsys):
    for seconds, quiet, said in ((0, False, "drawing: 1 of 9\n"), (3600, False, ""), (0, True, "")):
        monkeypatch.setattr(options, "SECONDS_A_LINE", seconds)
        with options.progress_bar("drawing", quiet) as on_step:
            on_step(1, 9)
        assert capsys.readouterr().err == said
