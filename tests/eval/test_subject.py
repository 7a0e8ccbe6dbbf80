import json

import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel
from typer.testing import CliRunner

from benchmarks.words import clip_words
from vilex.cli.app import app
from vilex.errors import InputError
from vilex.eval.dreambooth_data import read_prompts, read_subjects
from vilex.eval.features import features_of, load_extractor

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
    drawn = sorted((out / "pictures" / "clock" / "2-tokens,-TFG-4" / "0").iterdir())
    assert len(drawn) == 4  # two prompts, two pictures each
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
