import json

import pytest
import torch
from typer.testing import CliRunner

from vilex.cli.app import app
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.hub.export import export_encoder


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_exported_encoder_gives_the_same_tokens_at_any_batch_size(tmp_path, model_folder, pictures, suffix):
    path = tmp_path / f"encoder{suffix}"
    said = CliRunner().invoke(app, ["export", "-o", str(path), "--model", str(model_folder), "--json"])
    assert said.exit_code == 0 and not said.stderr, said.output
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


@pytest.mark.parametrize("error", [1, float("nan")])
def test_an_export_that_differs_is_refused_and_leaves_nothing(tmp_path, model_folder, monkeypatch, error):
    def other(model, pixels, out):
        out.write_bytes(b"wrong")
        return model(pixels) + error

    monkeypatch.setattr("vilex.hub.export._torch", other)
    with pytest.raises(InputError, match="gives other tokens than the encoder"):
        export_encoder(ViLexEncoder.from_pretrained(model_folder), tmp_path / "encoder.pt2", "torch")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", ["encoder.pt2", "encoder.json"])
def test_an_export_replaces_nothing_unasked(tmp_path, there, monkeypatch):
    (tmp_path / there).write_text("mine")
    monkeypatch.setattr("vilex.encoder.load_encoder", None)  # said before anything is loaded
    said = CliRunner().invoke(app, ["export", "-o", str(tmp_path / "encoder.pt2")])
    assert isinstance(said.exception, InputError) and f"{there}: exists; give another name" in str(said.exception)
    assert (tmp_path / there).read_text() == "mine"
    said = CliRunner().invoke(app, ["export", "-o", "encoder.bin"])
    assert isinstance(said.exception, InputError) and ".onnx or .pt2" in str(said.exception)
