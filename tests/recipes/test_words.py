"""The words stage: heads ask for the right cells and words, and the encoder learns to answer."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from recipes.nano.mosaic import LENGTH, cells_of
from recipes.nano.presets import AutoencoderPreset, Preset, TextToImagePreset, WordsPreset
from recipes.nano.rows import table_row
from recipes.nano.speech import CaptionBank
from recipes.nano.tokenizer import POSITIONS, learn_tokenizer
from recipes.nano.words import after, codes_of, train_words, words_said

COLOURS = {"red": (220, 40, 40), "blue": (40, 60, 220), "white": (250, 250, 250), "green": (30, 150, 60)}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Pictures of a ground and a square of two colours, in one of two halves, said in full."""
    rows = []
    for ground in COLOURS:
        for square in COLOURS:
            for side, columns in (("left", slice(0, 32)), ("right", slice(32, 64))):
                pixels = np.empty((64, 64, 3), dtype=np.uint8)
                pixels[:] = COLOURS[ground]
                pixels[16:48, columns] = COLOURS[square]
                said = f"a {square} square on the {side} of {ground}"
                rows.append(table_row(pixels, ["a square", said, said], [], []))
    path = tmp_path_factory.mktemp("words") / "scenes.parquet"
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_cells_come_in_the_order_of_a_mosaic_s_words():
    maps = torch.arange(64.0).view(1, 1, 8, 8)
    whole, *rest = cells_of(maps)[0, :, 0].tolist()
    assert len(rest) == LENGTH - 1 and whole == 31.5
    assert rest[:4] == [13.5, 17.5, 45.5, 49.5]  # quarters, row by row
    assert rest[4:6] == [4.5, 6.5]  # of the 4 x 4 cells
    assert rest[20:25] == [2, 3, 4, 5, 9]  # the finest level, without its corners: the second row begins with (1, 1)


def test_a_word_that_many_captions_have_tells_little(table):
    tokenizer = learn_tokenizer(table)
    rarity = CaptionBank(table, tokenizer, TextToImagePreset()).rarity
    square, red, left = rarity[tokenizer.convert_tokens_to_ids(["square</w>", "red</w>", "left</w>"])].tolist()
    assert square == 0 and left == pytest.approx(np.log(3)) and red > left  # in all, in a third, in fewer


def test_three_states_after_the_sentence_are_asked():
    ids = torch.full((2, POSITIONS), 9)
    ids[0, :5], ids[1, :12] = 1, 1
    states = torch.arange(POSITIONS).float()[None, :, None].expand(2, -1, 1)
    assert after(states, ids, eos=9)[..., 0].tolist() == [[5, 40, 76], [12, 44, 76]]
    assert words_said(torch.tensor([[0, 3, 3, 4]]), 6, [0, 4]).tolist() == [[0, 0, 0, 1, 0, 0]]


def test_codes_are_whitened_and_follow_the_picture():
    pixels = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), dtype=np.uint8)
    codes = codes_of(pixels, 4, "cpu").float()
    assert codes.shape == (40, 4, 8, 8)
    assert (codes.std((0, 2, 3)) - 1).abs().max() < 0.05 and codes.mean((0, 2, 3)).abs().max() < 0.05
    moved = codes_of(np.roll(pixels, 8, axis=2), 4, "cpu").float()
    assert torch.allclose(moved, codes.roll(1, 3), atol=2e-2)


def test_the_encoder_learns_to_foresee_its_pictures(table, tmp_path):
    (tmp_path / "scenes.parquet").symlink_to(table)
    preset = replace(
        Preset(),
        precision="fp32",
        words=WordsPreset(images=4800, batch=16, warmup=10),
        t2i=TextToImagePreset(
            text_width=48, text_layers=2, empty_share=0.0, mosaic_share=0.0, dense_share=1.0, blend_share=0.0
        ),
        autoencoder=AutoencoderPreset(latent_channels=4),
    )
    train_words(preset, tmp_path)
    found = CLIPTextModel.from_pretrained(tmp_path / "words"), CLIPTokenizer.from_pretrained(tmp_path / "words")
    log = [json.loads(line)["foresight"] for line in (tmp_path / "logs" / "words.jsonl").read_text().splitlines()]
    first, last = log[0], log[-1]
    assert last < 0.5 * first and last < 0.4
    states = [
        found[0](found[1](text, padding="max_length", return_tensors="pt").input_ids).last_hidden_state
        for text in ("a red square on the left of white", "a red square on the right of white")
    ]
    assert (states[0][:, 30:] - states[1][:, 30:]).abs().max() > 0.1
