"""A T5 tokenizer as DeepFloyd IF publishes it, `spiece.model` alone, needs what `vilex[t5]` brings."""

import json
import sys

import pytest
import sentencepiece
from transformers import T5TokenizerFast

from vilex.extras import MissingPackage
from vilex.t2i.parts import _load


@pytest.fixture
def folder(tmp_path):
    texts = ["the cat in the snow", "a red dog and hello", "photo of style"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(tmp_path / "spiece"), vocab_size=24, model_type="unigram",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 0}))
    return tmp_path


def test_it_is_converted(folder):
    words = _load(folder, T5TokenizerFast, None)
    assert words.decode(words("the red cat").input_ids, skip_special_tokens=True) == "the red cat"


@pytest.mark.parametrize("package", ["sentencepiece", "google.protobuf"])
def test_without_them_one_line_names_the_extra(folder, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=r'^\w+ is not installed; pip install "vilex\[t5\]"$'):
        _load(folder, T5TokenizerFast, None)


def test_a_whole_tokenizer_needs_neither(folder, monkeypatch):
    _load(folder, T5TokenizerFast, None).save_pretrained(folder)
    for package in ("sentencepiece", "google.protobuf"):
        monkeypatch.setitem(sys.modules, package, None)
    assert len(_load(folder, T5TokenizerFast, None)) == 24
