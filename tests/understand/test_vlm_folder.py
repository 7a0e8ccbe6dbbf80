"""A model saved and loaded again answers the same; over patches it is a plain PaliGemma to others."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PaliGemmaForConditionalGeneration

from tests.understand import small
from vilex.errors import InputError
from vilex.understand.features import FeaturesConfig
from vilex.understand.lora import add_lora, merge_lora
from vilex.understand.vlm_folder import load_vlm, make_vlm, save_vlm

PREFIXES = ["caption en", "what colour is this"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    (small.paligemma(folder / "p") / "preprocessor_config.json").write_text('{"image_seq_length": 16}')
    return {"paligemma": str(folder / "p"), "llama": str(small.llama(folder / "l"))}


def stirred(vlm):
    for projector in vlm.projectors.values():
        torch.nn.init.normal_(projector.weight, std=0.2)
    return vlm


@pytest.mark.parametrize("base", ["paligemma", "llama"])
@pytest.mark.parametrize("kind", ["patches", "patches+tokens", "tokens", "vae", "patches+pooled"])
def test_what_is_loaded_answers_as_what_was_saved(tmp_path, bases, model_folder, pictures, base, kind):
    vlm = stirred(make_vlm(bases[base], str(model_folder), FeaturesConfig(kind=kind), text_length=20))
    save_vlm(vlm, tmp_path / "vlm", {"steps": 3})
    again = load_vlm(tmp_path / "vlm")
    assert again.answer(pictures[:2], PREFIXES, 6) == vlm.answer(pictures[:2], PREFIXES, 6)
    assert again.layout.text_length == 20 and again.features.parts == vlm.features.parts
    assert json.loads((tmp_path / "vlm" / "vilex-vlm.json").read_text())["training"] == {"steps": 3}
    save_vlm(again, tmp_path / "vlm")  # in place
    assert load_vlm(tmp_path / "vlm").answer(pictures[:2], PREFIXES, 6) == vlm.answer(pictures[:2], PREFIXES, 6)


def test_over_patches_it_is_a_plain_paligemma(tmp_path, bases, model_folder, pictures):
    vlm = make_vlm(bases["paligemma"], str(model_folder), FeaturesConfig())
    add_lora(vlm.lm, 2, 4)
    for name, parameter in vlm.lm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    asked = vlm.layout.training(PREFIXES, ["a", "blue"], [1, 1])
    wanted = vlm.logits(vlm.features.of_images(pictures[:2]), asked)
    merge_lora(vlm.lm)
    save_vlm(vlm, tmp_path / "vlm")
    plain, about = PaliGemmaForConditionalGeneration.from_pretrained(tmp_path / "vlm", output_loading_info=True)
    assert not any(about[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    own = plain.eval()(
        input_ids=asked.ids, attention_mask=asked.there.long(), token_type_ids=(~asked.prefix & asked.there).long(),
        pixel_values=torch.cat([vlm.features.views(picture) for picture in pictures[:2]]),
    ).logits  # fmt: skip
    assert torch.allclose(own, wanted, atol=1e-4)
    processor = json.loads((tmp_path / "vlm" / "preprocessor_config.json").read_text())
    assert processor["image_seq_length"] == 16 and processor["image_mean"] == [0.5] * 3
    assert len(AutoTokenizer.from_pretrained(tmp_path / "vlm")) == len(vlm.tokenizer)
    assert not (tmp_path / "vlm" / "encoder").exists() and not (tmp_path / "vlm" / "projectors.safetensors").exists()


def test_paligemma_has_a_tower_of_its_own_and_others_must_be_given_one(bases, pictures):
    vlm = make_vlm(bases["paligemma"], "", FeaturesConfig())
    assert vlm.own_patches and vlm.answer(pictures[:1], ["caption en"], 3)
    with pytest.raises(InputError, match=r"model.encoder is missing: .* is no PaliGemma"):
        make_vlm(bases["llama"], "", FeaturesConfig())


def test_from_scratch_only_the_configuration_and_the_words_are_read(tmp_path, bases, model_folder):
    folder = tmp_path / "shape"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(bases["paligemma"], name), folder)
    with pytest.raises(InputError, match=r"no \.safetensors weights"):
        make_vlm(str(folder), str(model_folder), FeaturesConfig())
    torch.manual_seed(1)
    one = make_vlm(str(folder), str(model_folder), FeaturesConfig(), scratch=True)
    spread = one.lm.model.language_model.layers[0].self_attn.q_proj.weight.std().item()
    assert spread == pytest.approx(24**-0.5, rel=0.1)


def test_what_is_changed_or_missing_is_named(tmp_path, bases, model_folder):
    save_vlm(make_vlm(bases["llama"], str(model_folder), FeaturesConfig(kind="tokens")), tmp_path / "vlm")
    with pytest.raises(InputError, match=r"no vilex-vlm.json; expected a folder that `vilex understand train` wrote"):
        load_vlm(bases["llama"])
    (tmp_path / "vlm" / "projectors.safetensors").rename(tmp_path / "kept")
    with pytest.raises(InputError, match=r"projectors\.safetensors: missing"):
        load_vlm(tmp_path / "vlm")
    (tmp_path / "kept").rename(tmp_path / "vlm" / "projectors.safetensors")
    path = tmp_path / "vlm" / "encoder" / "model.safetensors"
    state = load_file(path)
    state["pooler.queries"] += 1
    save_file(state, path, {"format": "pt"})
    with pytest.raises(InputError, match="is not what it was trained with"):
        load_vlm(tmp_path / "vlm")
