"""Tiny sets with classes and masks, and tiny random models with a text side."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from benchmarks.words import clip_words

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (210, 40, 40)}
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SEES = {**SMALL, "image_size": 32, "patch_size": 8}


def blob(colour, rng, side=32):
    """A square of a colour somewhere on grey noise, and its mask."""
    pixels = rng.integers(90, 160, (side, side, 3)).astype(np.uint8)
    y, x = rng.integers(0, side - 16, 2)
    pixels[y : y + 16, x : x + 16] = colour
    mask = np.zeros((side, side), dtype=np.uint8)
    mask[y : y + 16, x : x + 16] = 1 + list(COLOURS.values()).index(colour)
    return Image.fromarray(pixels), Image.fromarray(mask)


@pytest.fixture(scope="session")
def coloured(tmp_path_factory):
    """A folder of folders, 16 pictures a class."""
    root, rng = tmp_path_factory.mktemp("coloured"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for i in range(16):
            blob(colour, rng)[0].save(root / name / f"{i:02}.png")
    return root


@pytest.fixture(scope="session")
def masked(tmp_path_factory):
    """Twenty pictures with masks of four classes."""
    root, rng = tmp_path_factory.mktemp("masked"), np.random.default_rng(1)
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for i in range(20):
        picture, mask = blob(list(COLOURS.values())[i % 3], rng)
        picture.save(root / "images" / f"{i}.jpg", quality=95)
        mask.save(root / "masks" / f"{i}.png")
    (root / "classes.txt").write_text("ground\n" + "\n".join(COLOURS) + "\n")
    return root


def make_reader(folder, kind, seed=0):
    """A CLIP or SigLIP with random weights, its words and its processor."""
    torch.manual_seed(seed)
    words = clip_words("!")
    text = {**SMALL, "vocab_size": len(words), "max_position_embeddings": 16, "pad_token_id": 0,
            "eos_token_id": words.eos_token_id, "bos_token_id": words.bos_token_id}  # fmt: skip
    if kind == "clip":
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=SEES, projection_dim=24))
        processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)
    else:
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=SEES))
        processor = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def readers(tmp_path_factory):
    return {kind: make_reader(tmp_path_factory.mktemp(kind), kind) for kind in ("clip", "siglip")}
