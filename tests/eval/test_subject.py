import json
from dataclasses import astuple, replace

import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel
from typer.testing import CliRunner

from benchmarks.words import clip_words
from vilex.baselines.tuning import TuningSettings
from vilex.cli.app import app
from vilex.errors import InputError
from vilex.eval import personalization
from vilex.eval.dreambooth_data import read_prompts, read_subjects
from vilex.eval.features import features_of, load_extractor
from vilex.eval.personalization import encoded
from vilex.eval.picture_store import text_key
from vilex.eval.subject import SubjectSettings, evaluate_subjects, photo_features
from vilex.guidance import Guidance
from vilex.lexicon import VisualLexicon

PROMPTS = """Classes

subject_name,class
clock,clock
rex,dog

Prompts

Object Prompts

prompt_list = [
'a {0} {1} in the snow'.format(unique_token, class_token),
'a red {0} {1}'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {0} {1} wearing a red hat'.format(unique_token, class_token)
]
"""


@pytest.fixture
def benchmark(tmp_path, pictures):
    """Two subjects of three and two photographs, and the prompts file."""
    for i, name in enumerate(["clock", "clock", "clock", "rex", "rex"]):
        (tmp_path / "subjects" / name).mkdir(parents=True, exist_ok=True)
        pictures[i].save(tmp_path / "subjects" / name / f"{i:02d}.png")
    (tmp_path / "prompts.txt").write_text(PROMPTS)
    return tmp_path


@pytest.fixture
def clip(tmp_path):
    """A tiny CLIP in its real format."""
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = clip_words()
    text = {**small, "vocab_size": len(words), "max_position_embeddings": 20, "eos_token_id": words.eos_token_id}
    torch.manual_seed(0)
    folder = tmp_path / "clip"
    CLIPModel(CLIPConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8})).save_pretrained(
        folder
    )
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PROMPTS.encode("utf-16"), "can't decode byte"),
        (b"x" * 200_000 + b"\n" + PROMPTS.encode(), "field larger than field limit"),
        (b"", "no prompts found"),
    ],
)
def test_files_that_are_no_prompts_are_named(tmp_path, content, message):
    (tmp_path / "prompts.txt").write_bytes(content)
    with pytest.raises(InputError, match=rf"prompts\.txt: .*{message}"):
        read_prompts(tmp_path / "prompts.txt")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory"):
        read_prompts(tmp_path)


def test_the_benchmarks_files(benchmark, pictures):
    prompts = read_prompts(benchmark / "prompts.txt")
    assert prompts.captions("clock") == ["a clock in the snow", "a red clock"]
    assert prompts.captions("dog") == ["a dog wearing a red hat"]
    subjects = read_subjects(benchmark / "subjects", prompts.classes)
    assert [(s.name, s.noun, len(s.photos)) for s in subjects] == [("clock", "clock", 3), ("rex", "dog", 2)]
    rows = [path.read_bytes() for path in sorted((benchmark / "subjects" / "rex").iterdir())]
    table = pyarrow.table({"image": rows, "subject": ["rex"] * 2, "class": ["dog"] * 2})
    pyarrow.parquet.write_table(table, benchmark / "table.parquet")
    (rex,) = read_subjects(benchmark / "table.parquet", {})
    assert (rex.noun, rex.photos[1].tobytes()) == ("dog", pictures[4].tobytes())
    with pytest.raises(InputError, match="no class for 'rex'"):
        read_subjects(benchmark / "subjects", {"clock": "clock"})
    (benchmark / "prompts.txt").write_text("nothing")
    with pytest.raises(InputError, match="no prompts found"):
        read_prompts(benchmark / "prompts.txt")


def test_rows_scores_and_files(benchmark, clip, model_folder):
    out = benchmark / "out"
    words = [
        "eval",
        "subject",
        str(benchmark / "subjects"),
        "--prompts",
        str(benchmark / "prompts.txt"),
        "-o",
        str(out),
    ]
    words += ["--model", str(model_folder), "--features", str(clip), "--text", str(clip), "--tokens", "2", "--tfg", "4"]
    words += ["--num-images", "2", "--steps", "2", "--subjects", "1", "--json"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    results = json.loads(said.stdout)
    assert list(results["rows"]) == ["words alone", "2 tokens alone", "2 tokens, TFG 4"]
    assert set(results["rows"]["words alone"]) == {"clip subject", "clip prompt"}
    assert (out / "clock.png").is_file() and "<svg" in (out / "trade.svg").read_text()
    (clock, _) = read_subjects(benchmark / "subjects", {"clock": "clock", "rex": "dog"})
    known, guidance = encoded("").key(clock), str(astuple(Guidance(3.0, 4.0)))
    stems = [text_key(f"<subject:2> {text}", text, known, guidance) for text in ("a clock in the snow", "a red clock")]
    folder = out / "pictures" / "clock" / "2-tokens,-TFG-4" / "0"
    drawn = [folder / f"{stem}-{i}.png" for stem in stems for i in range(2)]
    assert sorted(folder.iterdir()) == sorted(drawn)  # two prompts, two pictures each
    extractor = load_extractor(str(clip))
    seen = features_of([Image.open(path) for path in sorted((benchmark / "subjects" / "clock").iterdir())], extractor)
    again = features_of([Image.open(path).convert("RGB") for path in drawn], extractor)
    cosine = torch.nn.functional.cosine_similarity(again.vectors[:, None], seen.vectors[None], dim=-1).mean()
    texts = extractor.read(["a clock in the snow", "a red clock"]).repeat_interleave(2, 0)
    prompt = torch.nn.functional.cosine_similarity(again.vectors, texts).mean()
    row = results["rows"]["2 tokens, TFG 4"]
    assert row["clip subject"]["mean"] == pytest.approx(float(cosine), abs=1e-5)
    assert row["clip prompt"]["mean"] == pytest.approx(float(prompt), abs=1e-5)
    before = {path: path.stat().st_mtime_ns for path in drawn}
    assert json.loads(CliRunner().invoke(app, words).stdout)["rows"] == results["rows"]
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())


def test_a_text_model_must_read(benchmark, model_folder, tower_folder):
    words = ["eval", "subject", str(benchmark / "subjects"), "--prompts", str(benchmark / "prompts.txt")]
    words += ["--model", str(model_folder), "--features", "lite0", "--text", "lite0", "-o", str(benchmark / "out")]
    said = CliRunner().invoke(app, words)
    assert isinstance(said.exception, InputError) and "reads no text" in str(said.exception)


@pytest.fixture
def settings(benchmark):
    return SubjectSettings(
        benchmark / "subjects", benchmark / "prompts.txt", benchmark / "out", subjects=1, counts=(2,), tfg=(4.0,),
        per_prompt=2, features=("lite0",), text="", steps=2,
    )  # fmt: skip


def drawn_in(out):
    """By row, the pictures' names and contents."""
    found = {}
    for path in sorted((out / "pictures").rglob("*.png")):
        found.setdefault(path.parts[-3], {})[path.name] = path.read_bytes()
    return found


def test_other_prompts_are_other_pictures(benchmark, model_folder, settings):
    lexicon = VisualLexicon.from_pretrained(model_folder)
    evaluate_subjects(lexicon, settings)
    before = drawn_in(settings.out)
    (benchmark / "prompts.txt").write_text(PROMPTS.replace("in the snow", "on the beach"))
    evaluate_subjects(lexicon, settings)
    after = drawn_in(settings.out)
    assert {row: len(after[row]) - len(before[row]) for row in before} == {
        "words-alone": 2, "2-tokens,-TFG-4": 2, "2-tokens-alone": 2,
    }  # fmt: skip
    swapped = PROMPTS.replace("in the snow", "?").replace("'a red {0} {1}'", "'a {0} {1} in the snow'")
    (benchmark / "prompts.txt").write_text(swapped.replace("'a {0} {1} ?'", "'a red {0} {1}'"))
    evaluate_subjects(lexicon, settings)
    assert drawn_in(settings.out) == after  # the same prompts in another order


def test_another_first_photograph_is_encoded_and_the_words_stay(benchmark, model_folder, settings, pictures):
    lexicon = VisualLexicon.from_pretrained(model_folder)
    evaluate_subjects(lexicon, settings)
    before = drawn_in(settings.out)
    pictures[7].save(benchmark / "subjects" / "clock" / "!.png")
    evaluate_subjects(lexicon, settings)
    new = {row: after.keys() - before[row].keys() for row, after in drawn_in(settings.out).items()}
    assert {row: len(keys) for row, keys in new.items()} == {
        "words-alone": 0, "2-tokens,-TFG-4": 4, "2-tokens-alone": 4,
    }  # fmt: skip


def test_baselines_are_learned_once_for_the_same_photographs(benchmark, model_folder, settings, pictures, monkeypatch):
    lexicon, quick = VisualLexicon.from_pretrained(model_folder), TuningSettings(steps=1, lr=1e-3, batch_size=1)
    settings = replace(
        settings, baselines=("textual-inversion",), counts=(), captions=1, per_prompt=1, inversion=quick,
    )  # fmt: skip
    evaluate_subjects(lexicon, settings)
    monkeypatch.setattr(personalization, "invert", lambda *given: pytest.fail("learned again"))
    evaluate_subjects(lexicon, replace(settings, captions=2))  # another prompt of what is known
    with pytest.raises(pytest.fail.Exception, match="learned again"):
        evaluate_subjects(lexicon, replace(settings, inversion=replace(quick, steps=2)))
    pictures[7].save(benchmark / "subjects" / "clock" / "z.png")
    with pytest.raises(pytest.fail.Exception, match="learned again"):
        evaluate_subjects(lexicon, settings)


def test_names_of_a_table_never_make_paths(benchmark, model_folder, settings):
    image = (benchmark / "subjects" / "rex" / "03.png").read_bytes()
    names = ["../../x", "/abs/olute", "a/b", "..", "rex"]
    table = pyarrow.table({"image": [image] * 5, "subject": names, "class": ["dog"] * 5})
    (benchmark / "in" / "side").mkdir(parents=True)
    pyarrow.parquet.write_table(table, benchmark / "in" / "table.parquet")
    out = benchmark / "in" / "side" / "out"
    before = {path for path in benchmark.rglob("*") if out not in path.parents and path != out}
    settings = replace(settings, photos=benchmark / "in" / "table.parquet", out=out, subjects=None, per_prompt=1)
    results = evaluate_subjects(VisualLexicon.from_pretrained(model_folder), settings)
    assert results["subjects"] == names and len(list(out.glob("*.png"))) == 5
    assert len(list((out / "pictures").iterdir())) == len(list((out / "learned").iterdir())) == 5
    assert {path for path in benchmark.rglob("*") if out not in path.parents and path != out} == before


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("subject", None, "row 1: expected a subject and a class"),
        ("class", " ", "row 1: expected a subject and a class"),
        ("class", "cat", "'rex' is a cat here and a dog before"),
        ("image", None, "row 1: no image bytes"),
        ("image", b"no picture", "row 1"),
    ],
)
def test_rows_that_cannot_be_subjects_are_named(benchmark, column, value, said):
    image = (benchmark / "subjects" / "rex" / "03.png").read_bytes()
    columns = {"image": [image] * 2, "subject": ["rex"] * 2, "class": ["dog"] * 2}
    columns[column] = [columns[column][0], value]
    pyarrow.parquet.write_table(pyarrow.table(columns), benchmark / "table.parquet")
    with pytest.raises(InputError, match=said):
        read_subjects(benchmark / "table.parquet", {})


def test_a_table_opens_no_file_elsewhere(benchmark):
    image = pyarrow.array([{"bytes": None, "path": str(benchmark / "subjects" / "rex" / "03.png")}])
    pyarrow.parquet.write_table(
        pyarrow.table({"image": image, "subject": ["rex"], "class": ["dog"]}), benchmark / "table.parquet"
    )
    with pytest.raises(InputError, match="no image bytes"):
        read_subjects(benchmark / "table.parquet", {})


def test_photographs_of_any_size_are_looked_at(benchmark, pictures):
    pictures[0].resize((60, 40)).save(benchmark / "subjects" / "clock" / "wide.png")
    clock, _ = read_subjects(benchmark / "subjects", {"clock": "clock", "rex": "dog"})
    seen = photo_features(clock, load_extractor("lite0"))
    assert seen.shape == (4, 1280) and torch.allclose(seen.norm(dim=1), torch.ones(4))
    together = features_of(clock.photos, load_extractor("lite0")).vectors
    assert together.shape == (4, 1280)


def test_prompts_take_nothing_but_their_two_places(benchmark):
    hostile = PROMPTS.replace("'a red {0} {1}'", "'a {0.__class__} {2} {0} {1}'")
    (benchmark / "prompts.txt").write_text(hostile)
    assert read_prompts(benchmark / "prompts.txt").captions("clock")[1] == "a {0.__class__} {2} clock"
