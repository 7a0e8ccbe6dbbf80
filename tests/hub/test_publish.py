import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from typer.testing import CliRunner

from tests.hub_server import serve
from vilex.cli.app import app
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.hub.card import write_card
from vilex.hub.export import export_encoder
from vilex.hub.folder import resolve
from vilex.t2i import load_t2i


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_exported_encoder_gives_the_same_tokens_at_any_batch_size(tmp_path, model_folder, pictures, suffix):
    path = tmp_path / f"encoder{suffix}"
    said = CliRunner().invoke(app, ["export", "-o", str(path), "--model", str(model_folder), "--json"])
    assert said.exit_code == 0, said.output
    about = json.loads(said.stdout)
    assert about["output"]["tokens"] == ["batch", 75, 32] and about["difference"] < 1e-4
    assert json.loads(path.with_suffix(".json").read_text())["preprocessing"]["mean"] == [0.5] * 3
    encoder = ViLexEncoder.from_pretrained(model_folder).eval()
    for count in (1, 5):
        pixels = encoder.preprocess(pictures[:count])
        if suffix == ".onnx":
            import onnxruntime

            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            tokens = torch.from_numpy(session.run(None, {"pixel_values": pixels.numpy()})[0])
        else:
            tokens = torch.export.load(path).module()(pixels)
        assert torch.allclose(tokens, encoder(pixels).tokens, atol=1e-4)


def test_an_export_that_differs_is_refused(tmp_path, model_folder, monkeypatch):
    monkeypatch.setattr("vilex.hub.export._torch", lambda model, pixels, out: model(pixels) + 1)
    with pytest.raises(InputError, match="gives other tokens than the encoder"):
        export_encoder(ViLexEncoder.from_pretrained(model_folder), tmp_path / "encoder.pt2", "torch")
    said = CliRunner().invoke(app, ["export", "-o", "encoder.bin"])
    assert isinstance(said.exception, InputError) and ".onnx or .pt2" in str(said.exception)


def test_the_card_says_what_the_configuration_says(tmp_path, model_folder):
    encoder = ViLexEncoder.from_pretrained(model_folder)
    encoder.config.base_model, encoder.config.training = "someone/base@fp16", {"steps": 7, "images": 70}
    encoder.save_pretrained(tmp_path / "encoder")
    card = write_card(tmp_path / "encoder", "me/my-lexicon").read_text()
    assert card.startswith("---\n") and "base_model: someone/base\n" in card
    assert "# my-lexicon" in card and 'from_pretrained("me/my-lexicon")' in card and "# [1, 75, 32]" in card
    assert "| steps | 7 |" in card and next(iter(encoder.config.base_sha256.values())) in card
    (tmp_path / "encoder" / "README.md").write_text("mine")
    assert write_card(tmp_path / "encoder", "me/my-lexicon").read_text() == "mine"
    with pytest.raises(InputError, match="missing"):
        write_card(tmp_path, "me/my-lexicon")


def at_hub(folder, *words, **more):
    """A command with a cache of its own in `folder`, as the user of a hub runs it."""
    clean = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    env = clean | {"HF_HOME": str(folder / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": "hf_x"} | more
    return subprocess.run([sys.executable, *map(str, words)], env=env, capture_output=True, text=True)


def test_pushed_over_http_and_why_it_could_not(tmp_path, model_folder):
    ViLexEncoder.from_pretrained(model_folder).save_pretrained(tmp_path / "encoder")
    (tmp_path / "remote").mkdir()
    words = ["-m", "vilex", "push", tmp_path / "encoder", "me/it", "--private", "--revision", "v2"]
    with serve(tmp_path / "remote", "me/it", "v2") as hub:
        done = at_hub(tmp_path, *words, HF_ENDPOINT=hub.address)
    assert done.returncode == 0 and f"{hub.address}/me/it/commit/" in done.stdout, done.stderr
    created = dict(hub.asked)["api/repos/create"]
    assert (created["organization"], created["name"], created["visibility"]) == ("me", "it", "private")
    assert "api/models/me/it/branch/v2" in dict(hub.asked)
    names = ["README.md", "config.json", "model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "remote").iterdir()) == names
    for name in names:
        assert (tmp_path / "remote" / name).read_bytes() == (tmp_path / "encoder" / name).read_bytes()
    refused = at_hub(tmp_path, *words, HF_ENDPOINT=hub.address)  # nobody listens there any more
    assert refused.returncode == 2 and "error: me/it: the hub refused (" in refused.stderr
    assert refused.stderr.strip().count("\n") == 0


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
