"""Towers inside CLIP and SigLIP: tiny random models of the real classes."""

import pytest
import torch
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, CLIPVisionModel, SiglipVisionModel

from tests import tiny
from tests.eval.eyesight.conftest import COLOURS, make_reader
from vilex.encoder.eyes import load_eyes
from vilex.errors import InputError
from vilex.eval.eyesight.text_side import TextSide, by_text, check_templates, class_vectors, has_text

LINES = ["a photo of a red.", "a photo of a green."]


@torch.no_grad()
def logits(folder, pictures, lines):
    """As the model itself has them, pictures against texts."""
    model, words = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    pixels = AutoImageProcessor.from_pretrained(folder)(images=pictures, return_tensors="pt")
    length = model.config.text_config.max_position_embeddings
    ids = words(lines, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return model.eval()(**ids, **pixels).logits_per_image


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_model_s_own_classes_are_its_own_logits(kind, readers, pictures):
    side = TextSide(str(readers[kind]))
    seen = side(torch.stack([side.views(picture) for picture in pictures]))[0][:, 0]
    classes = class_vectors(side, ["red", "green"], ["a photo of a {}."])
    assert torch.equal(by_text(seen, classes), logits(readers[kind], pictures, LINES).argmax(1))
    assert torch.allclose(classes, side.texts(LINES), atol=1e-6)
    several = class_vectors(side, ["red", "green"], ["a photo of a {}.", "the {}"])
    mean = side.texts(LINES) + side.texts(["the red", "the green"])
    assert torch.allclose(several, mean / mean.norm(dim=1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize(("kind", "vision"), [("clip", CLIPVisionModel), ("siglip", SiglipVisionModel)])
def test_a_tower_looks_in_place_of_the_model_s_own(kind, vision, readers, pictures, tmp_path):
    own = AutoModel.from_pretrained(readers[kind])
    for name, model in (("same", own), ("other", AutoModel.from_pretrained(make_reader(tmp_path / "m", kind, 1)))):
        tower = vision(model.config.vision_config)
        tower.load_state_dict({key.removeprefix("vision_model."): value for key, value in
                               model.vision_model.state_dict().items()}, strict=True)  # fmt: skip
        tower.save_pretrained(tmp_path / name)
        AutoImageProcessor.from_pretrained(readers[kind]).save_pretrained(tmp_path / name)
    plain, same, other = (
        TextSide(str(readers[kind]), eyes)
        for eyes in (None, load_eyes(str(tmp_path / "same")), load_eyes(str(tmp_path / "other")))
    )
    pixels = torch.stack([plain.views(picture) for picture in pictures])
    assert torch.equal(plain(pixels)[0], same(pixels)[0]) and not torch.allclose(plain(pixels)[0], other(pixels)[0])
    assert plain.about() == same.about() != other.about()
    mixed = AutoModel.from_pretrained(readers[kind]).eval()
    mixed.vision_model.load_state_dict(other.network.vision_model.state_dict())
    with torch.no_grad():
        expected = mixed.get_image_features(pixel_values=pixels)
    assert torch.equal(getattr(expected, "pooler_output", expected), other(pixels)[0][:, 0])


def test_a_tower_of_another_shape_or_preparation_is_one_line(readers, tower_folder, tmp_path):
    with pytest.raises(InputError, match=r"its tower does not fit into .* \(.* is \[.*\] there, nothing here\)"):
        TextSide(str(readers["clip"]), load_eyes(str(tower_folder)))
    eyes = load_eyes(str(tower_folder))
    eyes.preprocess.__dict__["mean"] = (0.1, 0.2, 0.3)
    with pytest.raises(InputError, match=r"sees pictures of image_mean \[0\.1, 0\.2, 0\.3\]"):
        TextSide(str(readers["siglip"]), eyes)
    with pytest.raises(InputError, match="reads no text; give a CLIP or SigLIP"):
        TextSide(str(tiny.tower(tmp_path / "t")))


def test_who_reads_text(readers, tower_folder, model_folder):
    assert has_text(str(readers["clip"])) and has_text(str(readers["siglip"]))
    assert not any(map(has_text, (str(tower_folder), str(model_folder), "nano", "open_clip:ViT-B-32/x")))


def test_a_template_without_a_place_is_one_line():
    check_templates(["a {}"])
    with pytest.raises(InputError, match=r"--template 'a photo': expected \{\} where the class's name goes"):
        check_templates(["{}", "a photo"])
    assert COLOURS
