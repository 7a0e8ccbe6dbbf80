"""What is said of a picture while the text-to-image model learns."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from recipes.nano.captions import captions_of
from recipes.nano.mosaic import LENGTH
from recipes.nano.presets import TextToImagePreset
from recipes.nano.rows import table_row
from recipes.nano.scenes import random_scene
from recipes.nano.speech import ROOM, TOLD, CaptionBank, _groups, _single, read
from recipes.nano.tokenizer import POSITIONS, learn_tokenizer
from tests.recipes.test_nano import SPRITES

FIRST = sum(TOLD)  # words of a mosaic that a told one does without


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rng = np.random.default_rng(0)
    scenes = [random_scene(SPRITES, rng) for _ in range(12)]
    path = tmp_path_factory.mktemp("speech") / "t.parquet"
    rows = [table_row(scene.render(), captions_of(scene, rng), [], []) for scene in scenes]
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture(scope="module")
def tokenizer(table):
    return learn_tokenizer(table)


@pytest.fixture(scope="module")
def bank(table, tokenizer):
    return bank_of(table, tokenizer)


def bank_of(table, tokenizer, **settings):
    return CaptionBank(table, tokenizer, TextToImagePreset(**settings))


@pytest.fixture(scope="module")
def text_encoder(tokenizer):
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return CLIPTextModel(config).eval()


def test_words_alone_are_the_sentence_whatever_stands_beside_them(bank, tokenizer, text_encoder):
    sentence = bank.captions[3][2]
    alone, beside = bank.said([_single(sentence)]), bank.said([_single(sentence), bank.mosaic(0, told=True)])
    assert alone.blend is None and torch.equal(alone.ids, alone.words) and torch.equal(alone.ids, beside.ids[:1])
    assert alone.ids[0].tolist() == tokenizer(tokenizer.decode(sentence), padding="max_length").input_ids
    with torch.no_grad():
        assert torch.allclose(
            read(text_encoder, beside, "cpu")[0], text_encoder(alone.ids).last_hidden_state[0], atol=1e-6
        )


def test_a_blended_group_is_one_vector_in_which_words_weigh_what_they_tell(bank, tokenizer, text_encoder):
    caption = bank.captions[3][2]
    said = bank.said([[caption[:4], caption[4:5]]])
    table, rarity = text_encoder.get_input_embeddings().weight, torch.from_numpy(bank.rarity[caption[:4]])
    vectors = said.vectors(table)[0]
    assert torch.allclose(vectors[1], (rarity / rarity.norm()) @ table[caption[:4].astype(int)], atol=1e-6)
    assert torch.equal(vectors[2], table[caption[4]]) and torch.equal(vectors[0], table[tokenizer.bos_token_id])
    assert torch.equal(vectors[3:], table[tokenizer.eos_token_id].expand(POSITIONS - 3, -1))
    assert said.ids[0, :4].tolist() == [tokenizer.bos_token_id, caption[0], caption[4], tokenizer.eos_token_id]


def test_words_that_tell_nothing_weigh_alike_where_there_are_no_others(bank):
    common = int(np.flatnonzero(bank.rarity == 0)[0])
    assert bank._weights(np.array([common, common])).tolist() == pytest.approx([0.5**0.5] * 2)


def test_a_told_mosaic_says_first_what_is_shown(table, tokenizer):
    bank = bank_of(table, tokenizer, empty_share=0, mosaic_share=1, told_share=1)
    said = bank.draw(torch.full((200,), 5), np.random.default_rng(0))
    lengths = (said.ids != tokenizer.eos_token_id).sum(1) - 1
    assert set(lengths.tolist()) >= {1, 5, 21, LENGTH} and lengths.max() == LENGTH
    caption, mosaic = bank.captions[5][2], bank.mosaics[5]
    whole = int(lengths.argmax())
    assert said.ids[whole, 1 + FIRST : 1 + LENGTH].tolist() == mosaic[FIRST:].tolist()  # every cell in its own place
    first, *thirds = (said.words[whole][said.blend[whole, position] > 0].tolist() for position in range(1, 1 + FIRST))
    telling = {int(word) for word in caption if bank.rarity[word] > 0}
    assert set(first) == {word for third in thirds for word in third} == telling
    short = int((lengths == 1).nonzero()[0])
    assert torch.equal(*(weights[weights > 0] for weights in (said.blend[short, 1], said.blend[whole, 1])))
    assert said.words[short][said.blend[short, 1] > 0].tolist() == first


def test_shares_are_kept(table, tokenizer):
    rng = np.random.default_rng(1)
    for share in (0.0, 0.5, 1.0):
        bank = bank_of(table, tokenizer, empty_share=0, mosaic_share=1, told_share=share, blend_share=0)
        said = bank.draw(torch.arange(12).repeat(50), rng)
        blended = 0 if said.blend is None else ((said.blend[:, 1] > 0).sum(1) > 1).float().mean()
        assert blended == pytest.approx(share, abs=0.06)
        bank = bank_of(table, tokenizer, empty_share=0, mosaic_share=0, dense_share=1, blend_share=share)
        said = bank.draw(torch.arange(12).repeat(50), rng)
        blended = 0 if said.blend is None else ((said.blend > 0).sum(2) > 1)[:, :-1].any(1).float().mean()
        assert blended == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize(("words", "most"), [(2, 1), (9, 1), (9, 4), (3, 8), (ROOM, 8)])
def test_groups_are_neighbours(words, most):
    groups = _groups(np.arange(words), most, np.random.default_rng(0))
    assert np.concatenate(groups).tolist() == list(range(words))
    assert len(groups) == min(words, most) and all(len(group) for group in groups)
