import json
import shutil

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects

from tests.hub_server import at_hub, serve
from vilex.errors import InputError
from vilex.hub.folder import EMBEDDED, fingerprint, read_encoder_config, resolve, resolve_base
from vilex.lexicon import VisualLexicon
from vilex.t2i import load_t2i, shape_of


def test_a_hub_id_may_name_a_revision(monkeypatch, tmp_path):
    asked = {}

    def download(name, revision, allow_patterns):
        asked.update(name=name, revision=revision)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert resolve("someone/base@fp16") == tmp_path and asked == {"name": "someone/base", "revision": "fp16"}
    resolve("someone/base")
    assert asked["revision"] is None
    resolve("someone/base@refs/pr/3", weights=False)
    assert asked["revision"] == "refs/pr/3"


FETCH = "import sys; from vilex.hub.folder import resolve; print(resolve(sys.argv[1]))"


def test_fetched_from_a_hub_once_and_then_from_the_cache(sd_folder, tmp_path):
    """Over HTTP, from a stand-in for the hub on this machine."""
    repository = shutil.copytree(sd_folder[1], tmp_path / "repository")
    for decoy in ("v1-5-pruned.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "unet/weights.bin"):
        (repository / decoy).write_bytes(b"large")
    with serve(repository, "someone/base", "v2") as hub:
        first = at_hub(tmp_path, "-c", FETCH, "someone/base@v2", HF_ENDPOINT=hub.address)
        assert first.returncode == 0, first.stderr
        unknown = at_hub(tmp_path, "-c", FETCH, "someone/base@v3", HF_ENDPOINT=hub.address)
    again = at_hub(tmp_path, "-c", FETCH, "someone/base@v2", HF_HUB_OFFLINE="1")
    assert again.stdout == first.stdout and "Revision Not Found" in unknown.stderr
    weights = {str(path.relative_to(sd_folder[1])) for path in sd_folder[1].rglob("*.safetensors")}
    assert {name for name in hub.fetched if not name.endswith((".json", ".txt", ".model"))} == weights
    fetched = load_t2i(first.stdout.strip())
    assert torch.equal(fetched.vocabulary, load_t2i(sd_folder[1]).vocabulary)


XL = """model_index.json sd_xl_base_1.0.safetensors sd_xl_offset_example-lora_1.0.safetensors
    scheduler/scheduler_config.json tokenizer/merges.txt tokenizer/vocab.json tokenizer_2/merges.txt
    text_encoder/config.json text_encoder/model.safetensors text_encoder/model.fp16.safetensors
    text_encoder/flax_model.msgpack text_encoder_2/model.safetensors text_encoder_2/model.onnx
    unet/config.json unet/diffusion_pytorch_model.safetensors unet/diffusion_pytorch_model.fp16.safetensors
    unet/openvino_model.bin vae/diffusion_pytorch_model.safetensors vae_1_0/diffusion_pytorch_model.safetensors"""
THREE = """model_index.json sd3_medium.safetensors text_encoders/clip_g.safetensors tokenizer_3/spiece.model
    text_encoder_3/model-00001-of-00002.safetensors text_encoder_3/model-00002-of-00002.safetensors
    text_encoder_3/model.fp16-00001-of-00002.safetensors text_encoder_3/model.safetensors.index.json
    transformer/diffusion_pytorch_model.safetensors safety_checker/model.safetensors"""
ENCODER = "config.json model.safetensors pytorch_model.bin t2i/unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("files", "parts", "weights"),
    [
        (XL, ["text_encoder", "text_encoder_2", "unet", "vae"], """text_encoder/model.safetensors
            text_encoder_2/model.safetensors unet/diffusion_pytorch_model.safetensors
            vae/diffusion_pytorch_model.safetensors"""),
        (THREE, ["text_encoder_3", "transformer", "safety_checker"], """text_encoder_3/model-00001-of-00002.safetensors
            text_encoder_3/model-00002-of-00002.safetensors transformer/diffusion_pytorch_model.safetensors"""),
        (ENCODER, [], "model.safetensors t2i/unet/diffusion_pytorch_model.safetensors"),
    ],
)  # fmt: skip
def test_of_a_repository_only_what_is_used_is_fetched(files, parts, weights, monkeypatch, tmp_path):
    fetched = set()
    if parts:
        (tmp_path / "model_index.json").write_text(
            json.dumps({"_class_name": "X", **{part: ["a", "B"] for part in parts}})
        )

    def download(name, revision, allow_patterns):
        fetched.update(filter_repo_objects(files.split(), allow_patterns=allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    resolve("someone/base", weights=False)
    assert fetched == {name for name in files.split() if name.endswith((".json", ".txt", ".model"))}
    fetched.clear()
    resolve("someone/base")
    assert {name for name in fetched if name.endswith(".safetensors")} == set(weights.split())


def test_an_embedded_model_is_found_wherever_one_is_asked_for():
    assert resolve("nano") == EMBEDDED["nano"] and resolve_base("nano") == EMBEDDED["nano"] / "t2i"
    lexicon = VisualLexicon.from_pretrained("nano", t2i="nano")
    assert lexicon.base_sha256 == fingerprint(EMBEDDED["nano"] / "t2i")
    assert shape_of("nano").width == lexicon.t2i.width


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "expected a model's name, got an empty one"),
        ("a" * 5000, "cannot be looked at"),
        ("nul\0here", "no such model folder"),
        ("./none", "no such model folder"),
        (__file__, "a file; expected a model's folder"),
    ],
)
def test_what_is_no_model(name, message):
    with pytest.raises(InputError, match=message) as caught:
        resolve(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_model": None}, "names no base_model; give the frozen model"),
        ({"num_tokens": 16}, r"pooler.queries is \[75, 32\] in the weights and \[16, 32\] by config.json"),
        ({"blocks": 1}, "config.json has no place for the weights pooler.blocks.1"),
        ({"blocks": 3}, "has no weights for pooler.blocks.2"),
        ({"heads": 5}, "heads: 5 do not divide the pooler's width 32"),
        ({"width": "wide"}, "cannot be loaded"),
        ({"tower": {}}, "tower: unknown model_type None; expected siglip_vision_model"),
        ({"tower": {"model_type": "timm_wrapper"}}, "tower: unknown model_type 'timm_wrapper'"),
        ({"tower": {"model_type": "open_clip", "name": "hf-hub:some/one"}}, "open_clip"),
        ({"tower": {"model_type": "vit", "attn_implementation": "some/kernel"}}, "code of elsewhere"),
        ({"_attn_implementation": "some/kernel"}, "code of elsewhere"),
        ({"model_type": "clip"}, "no ViLex encoder"),
    ],
)
def test_a_configuration_is_believed_only_where_it_fits(model_folder, tmp_path, changes, message):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(InputError, match=message) as caught:
        VisualLexicon.from_pretrained(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_a_folder_that_is_none_and_a_run_instead_of_its_encoder(tmp_path):
    with pytest.raises(InputError, match="nano: no such model folder; give an encoder's"):
        read_encoder_config(tmp_path / "nano")
    (tmp_path / "config.json").write_text('{"run": {"steps": 3}}')
    with pytest.raises(InputError, match=r"no ViLex encoder \(model_type is None\); that of a run is in its folder"):
        read_encoder_config(tmp_path)


@pytest.mark.parametrize("load", [load_t2i, shape_of])
@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("unet/config.json", {"down_block_types": ["Foo"]}, "cannot be loaded: "),
        ("unet/config.json", {"sample_size": None}, "cannot be loaded: "),
        ("text_encoder/config.json", {"num_hidden_layers": "many"}, "cannot be loaded: "),
        ("text_encoder/config.json", {"attn_implementation": "some/kernel"}, "code of elsewhere; remove that line"),
        ("model_index.json", {"unet": "x"}, "model_index.json has no 'unet'"),
        ("model_index.json", {"unet": ["os", "system"]}, "unet system is not supported"),
    ],
)
def test_a_base_whose_configuration_says_anything(sd_folder, tmp_path, name, changes, message, load):
    folder = shutil.copytree(sd_folder[1], tmp_path / "base")
    config = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(config | changes))
    with pytest.raises(InputError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_layers_that_a_base_has_weights_for_are_not_left_out(sd_folder, tmp_path):
    folder = shutil.copytree(sd_folder[1], tmp_path / "base")
    path = folder / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 1}))
    with pytest.raises(InputError, match=r"text_encoder: config.json has no place for the weights .*layers\.1\."):
        load_t2i(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("harm", ["folder", "empty", "cut", "missing"])
def test_damaged_files_are_named(model_folder, tmp_path, name, harm):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if harm == "folder":
        path.mkdir()
    elif harm != "missing":
        path.write_bytes(b"" if harm == "empty" else content[: len(content) // 2])
    with pytest.raises(InputError, match=str(folder)) as caught:
        VisualLexicon.from_pretrained(folder)
    assert "\n" not in str(caught.value)
