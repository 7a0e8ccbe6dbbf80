"""Learned words of textual inversion, in the formats that people have them in, wherever an image is asked for."""

import warnings

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPTextModel

from tests.families import FAMILIES
from vilex.errors import InputError
from vilex.lexicon import VisualLexicon
from vilex.t2i import load_t2i
from vilex.tokens import given_tokens, load_tokens


@pytest.mark.parametrize(
    ("tensors", "name", "rows"),
    [
        ({"<cat>": torch.ones(3, 8)}, "cat", 3),
        ({"<cat>": torch.ones(8)}, "cat", 1),
        ({"emb_params": torch.ones(2, 8)}, "style", 2),
        ({"clip_l": torch.ones(2, 3), "clip_g": torch.ones(2, 5)}, "style", 2),
    ],
)
def test_every_format_is_one_word_of_several_vectors(tmp_path, tensors, name, rows):
    save_file({key: value.half() for key, value in tensors.items()}, tmp_path / "style.safetensors", {"format": "pt"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # they are the base model's words: no encoder made them
        given = given_tokens(tmp_path / "style.safetensors", "it", 8, encoder_sha256="ab")
    assert list(given) == [name] and torch.equal(given[name], torch.ones(rows, 8))


def test_parts_are_in_the_order_of_the_text_encoders(tmp_path):
    save_file({"clip_g": torch.full((1, 5), 2.0), "clip_l": torch.ones(1, 3)}, tmp_path / "x.safetensors")
    assert load_tokens(tmp_path / "x.safetensors").tokens["x"].tolist() == [[1, 1, 1, 2, 2, 2, 2, 2]]
    widths = [encoder.width for encoder in load_t2i(FAMILIES["sdxl"].make(tmp_path / "sdxl")).encoders]
    assert widths == sorted(widths)  # CLIP L before CLIP G


@pytest.mark.parametrize(
    ("name", "tensors", "message"),
    [
        ("x.pt", None, "x.pt: pickled embeddings are never read; convert the file to safetensors"),
        ("x.bin", None, "never read"),
        ("x.safetensors", {"clip_l": torch.ones(2, 3), "clip_g": torch.ones(1, 5)}, "for each text encoder, got clip_"),
        ("x.safetensors", {"clip_l": torch.ones(2, 3)}, r"x.safetensors#x: expected tokens \[n, 8\]"),
        ("x.safetensors", {"<x>": torch.full((1, 8), float("nan"))}, "NaN"),
        ("x.safetensors", {"clip_l": torch.tensor(1.0)}, "holds no image tokens"),
        ("x.safetensors", {"clip_l": torch.ones(1, 2, 8)}, "holds no image tokens"),
        ("x.safetensors", {"<x>": torch.ones(2, 8, dtype=torch.long)}, "holds no image tokens"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path, name, tensors, message):
    if tensors:
        save_file(tensors, tmp_path / name)
    with pytest.raises(InputError, match=message):
        given_tokens(tmp_path / name, "it", 8, None)


def test_a_learned_word_stands_beside_images_as_diffusers_reads_it(tmp_path, model_folder, pictures):
    """The features of "a <cat> hat" are those of a tokenizer and a lookup to which diffusers has added the word."""
    lexicon = VisualLexicon.from_pretrained(model_folder)
    learned = torch.randn(2, lexicon.t2i.width)
    save_file({"<cat>": learned}, tmp_path / "learned_embeds.safetensors")
    ours = lexicon.prompt_embeds("a <cat> hat", {"cat": tmp_path / "learned_embeds.safetensors"})["prompt_embeds"]
    from diffusers import StableDiffusionPipeline

    pipeline = lexicon.pipeline(StableDiffusionPipeline, safety_checker=None, feature_extractor=None)
    assert isinstance(pipeline.text_encoder, CLIPTextModel)
    pipeline.load_textual_inversion(str(tmp_path / "learned_embeds.safetensors"), token="<cat>")
    theirs, _ = pipeline.encode_prompt("a <cat> hat", "cpu", 1, False)
    assert torch.allclose(ours, theirs, atol=1e-5)
    both = lexicon.generate(
        "<cat> and <it:2>", {"cat": tmp_path / "learned_embeds.safetensors", "it": pictures[0]}, steps=1
    )
    assert len(both) == 1
