"""A small language model of a file's own words: what it knows, what is refused, and that it learns."""

import json

import pytest
from transformers import AutoTokenizer
from typer.testing import CliRunner

from vilex.cli.app import UsageError, app
from vilex.errors import InputError
from vilex.understand.language import LanguageConfig, make_language
from vilex.understand.vlm_folder import load_language_model


def run(*words):
    words = ["understand", "language", *map(str, words)]
    return CliRunner().invoke(app, words, catch_exceptions=False, standalone_mode=False)


@pytest.fixture
def train(tmp_path):
    """Three examples; one word occurs once."""
    said = [("answer en what is it?", "A cat"), ("answer en what is it?", "a dog"), ("caption en", "a cat, a dog")]
    lines = [{"image": f"{i}.png", "prefix": ask, "suffix": [say]} for i, (ask, say) in enumerate(said)]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_every_text_comes_back_from_its_ids(tmp_path):
    said = ["a big red jack-o-lantern in 3d style, a t-shirt and a sign that says 17 on the beach", "42", "yes",
            "the fox moves left"]  # fmt: skip
    make_language([*said, "answer en what does the sign say?"], tmp_path, LanguageConfig(least=1))
    words = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*said, "<loc0103><loc0051><loc0900><loc0800><seg012>"]:
        ids = words(text, add_special_tokens=False).input_ids
        assert words.decode(ids, clean_up_tokenization_spaces=False) == text and words.unk_token_id not in ids
    assert len(words("\n", add_special_tokens=False).input_ids) == 1
    assert len(words("<loc0103><seg012>", add_special_tokens=False).input_ids) == 2


def test_the_command_writes_what_scratch_reads(tmp_path, train):
    done = run(train, "-o", tmp_path / "language", "--width", 32, "--heads", 2, "--hidden", 48, "--layers", 3, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["texts"], said["longest"], said["unknown"]) == (6, 6, 2)  # "caption" and the comma are there once
    lm, words = load_language_model(tmp_path / "language", scratch=True)
    assert len(words) == said["words"] == lm.config.text_config.vocab_size
    text = lm.config.text_config
    assert (text.hidden_size, text.num_attention_heads) == (32, 2)
    assert (text.intermediate_size, text.num_hidden_layers) == (48, 3)
    assert words.decode(words("A DOG", add_special_tokens=False).input_ids) == "a dog"
    assert not list((tmp_path / "language").glob("*.safetensors")) and not list((tmp_path / "language").glob(".*"))


def test_what_is_there_is_kept(tmp_path, train):
    folder = tmp_path / "language"
    assert run(train, "-o", folder).exit_code == 0
    before = (folder / "config.json").read_bytes()
    with pytest.raises(InputError, match=r"config\.json: exists; give another folder with -o, or --overwrite"):
        run(train, "-o", folder, "--width", 64)
    assert (folder / "config.json").read_bytes() == before
    assert run(train, "-o", folder, "--width", 64, "--overwrite").exit_code == 0
    assert json.loads((folder / "config.json").read_bytes())["projection_dim"] == 64
    (folder / "model.safetensors").touch()
    with pytest.raises(InputError, match=r"model\.safetensors: weights of a model"):
        run(train, "-o", folder, "--overwrite")


def test_what_does_not_fit_is_one_line(tmp_path, train):
    for words, line in (
        ([train, "--width", 36], "width: 36 is no multiple of 8, twice the heads"),
        ([tmp_path / "none.jsonl"], r"none\.jsonl: cannot be read"),
        ([train, "--layers", 0], "greater than or equal to 1"),
    ):
        with pytest.raises((InputError, UsageError), match=line):
            run(*words, "-o", tmp_path / "language")
        assert not (tmp_path / "language").exists()
    with pytest.raises(InputError, match="width: 10 is no multiple"):
        LanguageConfig(width=10)
