"""`vilex export --siglip` and `--paligemma`: what is written loads in plain transformers, and nothing else changed."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoImageProcessor,
    AutoModel,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from typer.testing import CliRunner

from tests import tiny
from tests.understand import small
from vilex.cli.app import app
from vilex.encoder import ViLexEncoder
from vilex.encoder.towers import build_tower
from vilex.errors import InputError
from vilex.hub.plain_tower import export_paligemma, export_tower


def export(*arguments):
    said = CliRunner().invoke(app, ["export", *map(str, arguments)])
    if said.exception and not isinstance(said.exception, SystemExit):
        raise said.exception
    assert said.exit_code == 0, said.output
    return said.stdout


def test_the_tower_alone_is_a_plain_siglip_under_published_names(tmp_path, model_folder, pictures):
    export("--siglip", tmp_path / "siglip", "--model", model_folder, "--quiet")
    tower, about = AutoModel.from_pretrained(tmp_path / "siglip", output_loading_info=True)
    assert type(tower) is SiglipVisionModel and not about["missing_keys"] and not about["unexpected_keys"]
    assert all(key.startswith("vision_model.") for key in load_file(tmp_path / "siglip" / "model.safetensors"))
    encoder = ViLexEncoder.from_pretrained(model_folder).eval()
    pixels = AutoImageProcessor.from_pretrained(tmp_path / "siglip")(pictures, return_tensors="pt").pixel_values
    assert torch.equal(pixels, encoder.preprocess(pictures))
    assert torch.equal(tower.eval()(pixels).last_hidden_state, encoder(pixels).patches)


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
def test_another_tower_keeps_its_own_class(tmp_path, kind):
    folder = tiny.tower(tmp_path / kind, kind)
    export_tower(str(folder), tmp_path / "out")
    tower, about = AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert type(tower) is type(tiny.TOWERS[kind]()) and not about["missing_keys"] and not about["unexpected_keys"]
    before = AutoModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(value, before[key]) for key, value in tower.state_dict().items())


@pytest.mark.parametrize("published", [False, True])
def test_a_paligemma_has_the_tower_and_is_otherwise_byte_for_byte_its_own(tmp_path, model_folder, published):
    base = small.paligemma(tmp_path / "base", published=published)
    export("--paligemma", base, "-o", tmp_path / "out", "--model", model_folder)
    held, own = (load_file(one / "model.safetensors") for one in (tmp_path / "out", base))
    assert list(held) == list(own)
    changed = {key for key in own if not torch.equal(held[key], own[key])}
    assert changed and all("vision_tower" in key for key in changed)
    model, about = PaliGemmaForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not about["missing_keys"] and not about["unexpected_keys"] and not about["mismatched_keys"]
    tower = ViLexEncoder.from_pretrained(model_folder).tower.state_dict()
    inside = model.model.vision_tower.state_dict()
    assert inside.keys() == tower.keys() and all(torch.equal(inside[key], tower[key]) for key in tower)
    for name in ("config.json", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()
    assert json.loads((tmp_path / "out" / "vilex-tower.json").read_text())["paligemma"] == str(base)


def test_a_shard_without_the_tower_is_copied_and_half_precision_stays(tmp_path, tower_folder):
    base = small.paligemma(tmp_path / "base")
    model = PaliGemmaForConditionalGeneration.from_pretrained(base, dtype=torch.bfloat16)
    model.save_pretrained(base, max_shard_size="20KB")
    (base / "model.safetensors").unlink()
    shards = sorted(base.glob("model-*.safetensors"))
    assert len(shards) > 2
    export_paligemma(str(tower_folder), str(base), tmp_path / "out")
    again = PaliGemmaForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert again.dtype == torch.bfloat16
    tower = SiglipVisionModel.from_pretrained(tower_folder).state_dict()
    inside = again.model.vision_tower.state_dict()
    assert all(torch.equal(inside[key], tower[key].bfloat16()) for key in inside)
    assert any(path.read_bytes() == (tmp_path / "out" / path.name).read_bytes() for path in shards)


@pytest.mark.parametrize(
    ("vision", "said"),
    [
        ({"image_size": 64}, r"position_embedding.weight is \[64, 32\] there and \[16, 32\] in this tower"),
        ({"num_hidden_layers": 3}, r"its tower has also encoder\.layers\.2"),
        ({"num_hidden_layers": 1}, r"its tower has no encoder\.layers\.1"),
        ({"num_attention_heads": 2}, "num_attention_heads 2, this one 4"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps 1e-05, this one 1e-06"),
    ],
)
def test_a_tower_that_does_not_fit_is_one_line_and_nothing_is_written(tmp_path, tower_folder, vision, said):
    base = small.paligemma(tmp_path / "base", **vision)
    with pytest.raises(InputError, match=said):
        export_paligemma(str(tower_folder), str(base), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]


def test_what_is_no_paligemma_or_is_there_is_refused(tmp_path, tower_folder):
    with pytest.raises(InputError, match="a 'siglip_vision_model'; expected a PaliGemma"):
        export_paligemma(str(tower_folder), str(tower_folder), tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists; give another name, or --overwrite"):
        export_tower(str(tower_folder), tmp_path / "out")
    export_tower(str(tower_folder), tmp_path / "out", overwrite=True)
    for arguments in (["--siglip", "a", "--paligemma", "b"], ["--paligemma", "b"], ["--siglip", "a", "-o", "c"]):
        with pytest.raises(InputError, match=r"give one of them|folder to write with -o|names the folder itself"):
            export(*arguments)


def test_so400m_has_the_same_437_weights_as_paligemma():
    """On shapes alone, of the published configurations: siglip-so400m-patch14-224 and paligemma-3b-pt-224."""
    shape = {
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
        "patch_size": 14, "image_size": 224,
    }  # fmt: skip
    with torch.device("meta"):
        vilex = build_tower({**SiglipVisionConfig(**shape).to_dict(), "vision_use_head": True})
        published = {**shape, "model_type": "siglip_vision_model", "projection_dim": 2048, "num_image_tokens": 256,
                     "projector_hidden_act": "gelu_fast", "vision_use_head": False}  # fmt: skip
        inside = AutoModel.from_config(PaliGemmaConfig(vision_config=published).vision_config)
    ours, theirs = ({key: value.shape for key, value in one.state_dict().items()} for one in (vilex, inside))
    assert ours == theirs and len(ours) == 437
