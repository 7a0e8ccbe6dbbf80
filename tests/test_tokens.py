import pytest
import torch
from safetensors.torch import save_file

from vilex.errors import InputError
from vilex.tokens import average, given_tokens, load_tokens, save_tokens, slerp


def test_file_round_trip_keeps_provenance(tmp_path):
    tokens = {"cat": torch.randn(4, 8), "dog": torch.randn(2, 8)}
    provenance = {"cat": {"file": "cat.png", "sha256": "ab"}, "dog": {"file": "dög.png"}}
    save_tokens(tmp_path / "t.safetensors", tokens, provenance)
    loaded = load_tokens(tmp_path / "t.safetensors")
    assert all(torch.equal(loaded.tokens[name], tokens[name]) for name in tokens)
    assert loaded.provenance == provenance


@pytest.mark.parametrize(("folder", "name"), [("none", "cat"), (".", 1)])
def test_tokens_that_cannot_be_written_are_one_line(tmp_path, folder, name):
    with pytest.raises(InputError, match=r"t\.safetensors: tokens cannot be written"):
        save_tokens(tmp_path / folder / "t.safetensors", {name: torch.zeros(2, 4)}, {})


def test_other_files_are_refused(tmp_path, model_folder):
    (tmp_path / "no.safetensors").write_text("no")
    for path in (tmp_path / "no.safetensors", tmp_path / "none.safetensors", model_folder / "model.safetensors"):
        with pytest.raises(InputError, match="vilex encode"):
            load_tokens(path)


@pytest.mark.parametrize(
    ("tokens", "header", "message"),
    [
        ({"cat": torch.full((4, 8), float("nan"))}, {}, "x.safetensors#cat: tokens are NaN or infinite"),
        ({"cat": torch.zeros(4, 8, dtype=torch.int64)}, {}, "floating-point numbers, got torch.int64"),
        ({"cat": torch.zeros(2, 4, 8)}, {}, r"#cat: expected tokens \[n, d\] of one image, got \[2, 4, 8\]"),
        ({"cat": torch.zeros(0, 8)}, {}, r"got \[0, 8\]"),
        ({}, {}, "holds no image tokens"),
        ({"cat": torch.zeros(4, 8)}, {"provenance": "{"}, "its provenance is damaged"),
        ({"cat": torch.zeros(4, 8)}, {"provenance": "[]"}, "its provenance is damaged"),
        ({"cat": torch.zeros(4, 8)}, {"provenance": '{"cat": 3}'}, "its provenance is damaged"),
        ({"cat": torch.zeros(4, 8), "dog": torch.zeros(4, 8)}, {"format": "pt"}, "holds no image tokens"),
    ],
)
def test_broken_token_files_are_one_line(tmp_path, tokens, header, message):
    save_file(tokens, tmp_path / "x.safetensors", metadata={"format": "vilex-tokens", **header})
    with pytest.raises(InputError, match=message):
        load_tokens(tmp_path / "x.safetensors")


def test_a_file_without_provenance_and_one_image_of_it(tmp_path):
    save_file(
        {"a": torch.ones(1, 4, 8), "b": torch.zeros(2, 8)}, tmp_path / "x.safetensors", {"format": "vilex-tokens"}
    )
    assert load_tokens(tmp_path / "x.safetensors").provenance == {}
    assert list(given_tokens(tmp_path / "x.safetensors", "it", 8, None)) == ["a", "b"]
    assert torch.equal(given_tokens(f"{tmp_path}/x.safetensors#a", "it", 8, None)["a"], torch.ones(4, 8))
    assert given_tokens(tmp_path / "x.png", "it", 8, None) is None
    for source, message in (("#c", "holds no image 'c', only a, b"), ("#a", r"#a: expected tokens \[n, 9\]")):
        with pytest.raises(InputError, match=message):
            given_tokens(f"{tmp_path}/x.safetensors{source}", "it", 9, None)


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: average([a, a], [1, float("nan")]), "weight: expected a number"),
        (lambda a: average([a, 3]), r"average: expected tokens \[n, d\], got 3"),
        (lambda a: average([]), "one width d, got none"),
        (lambda a: average([a, a[:, :4]]), "one width d, got 8, 4"),
        (lambda a: average([a * float("inf")]), "NaN or infinite"),
        (lambda a: slerp(a, a, float("nan")), "t: expected a number"),
        (lambda a: slerp(a, a[:, :4], 0.5), "one width d, got 8, 4"),
    ],
)
def test_arithmetic_of_no_numbers_is_one_line(call, message):
    with pytest.raises(InputError, match=message):
        call(torch.ones(2, 8))
