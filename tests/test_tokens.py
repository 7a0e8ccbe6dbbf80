import pytest
import torch

from vilex.errors import InputError
from vilex.tokens import average, load_tokens, save_tokens, slerp


def test_file_round_trip_keeps_provenance(tmp_path):
    tokens = {"cat": torch.randn(4, 8), "dog": torch.randn(2, 8)}
    provenance = {"cat": {"file": "cat.png", "sha256": "ab"}, "dog": {"file": "dög.png"}}
    save_tokens(tmp_path / "t.safetensors", tokens, provenance)
    loaded = load_tokens(tmp_path / "t.safetensors")
    assert all(torch.equal(loaded.tokens[name], tokens[name]) for name in tokens)
    assert loaded.provenance == provenance


def test_other_files_are_refused(tmp_path, model_folder):
    (tmp_path / "no.safetensors").write_text("no")
    for path in (tmp_path / "no.safetensors", tmp_path / "none.safetensors", model_folder / "model.safetensors"):
        with pytest.raises(InputError, match="vilex encode"):
            load_tokens(path)


def test_slerp_meets_its_ends_and_keeps_length():
    a, b = torch.randn(5, 8), torch.randn(7, 8)
    assert torch.allclose(slerp(a, b, 0), a, atol=1e-5) and torch.allclose(slerp(a, b, 1), b[:5], atol=1e-5)
    unit = torch.nn.functional.normalize(a, dim=-1), torch.nn.functional.normalize(b[:5], dim=-1)
    middle = slerp(*unit, 0.5)
    assert torch.allclose(middle.norm(dim=-1), torch.ones(5), atol=1e-5)
    assert torch.allclose((middle * unit[0]).sum(-1), (middle * unit[1]).sum(-1), atol=1e-5)
    assert torch.allclose(slerp(a, a, 0.3), a, atol=1e-5)


def test_average():
    a, b = torch.zeros(3, 2), torch.ones(2, 2)
    assert torch.equal(average([a, b]), torch.full((2, 2), 0.5))
    assert torch.allclose(average([a, b], [1, 3]), torch.full((2, 2), 0.75))
    with pytest.raises(InputError, match="weight"):
        average([a, b], [1, -1])
