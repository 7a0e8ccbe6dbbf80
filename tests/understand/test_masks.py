"""Words of masks: the published names and shapes, boxes as big_vision writes and reads them, a codec that learns."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vilex.errors import InputError
from vilex.understand.mask_codec import SHIPPED, CodecShape, MaskCodec, load_codec
from vilex.understand.mask_training import CodecConfig, overlap, train_codec
from vilex.understand.masks import cut, mask_to_words, own_box, special_words, words_to_masks

# The names in big_vision's vae-oid.npz, as its code asks for them (pp/ and evaluators/proj/paligemma/.../segmentation).
PUBLISHED = {
    "_vq_vae._embedding",
    *(f"encoder.{i}.{part}" for i in (0, 2, 4, 6, 10) for part in ("weight", "bias")),
    *(f"encoder.{i}.net.{j}.{part}" for i in (8, 9) for j in (0, 2, 4) for part in ("weight", "bias")),
    *(f"decoder.{i}.{part}" for i in (0, 4, 6, 8, 10, 12) for part in ("weight", "bias")),
    *(f"decoder.{i}.net.{j}.{part}" for i in (2, 3) for j in (0, 2, 4) for part in ("weight", "bias")),
}


class FullSquare(torch.nn.Module):
    """Decodes everything to a filled box."""

    def decode(self, numbers):
        return torch.ones(len(numbers), 64, 64)


def small():
    torch.manual_seed(0)
    return MaskCodec(CodecShape((2, 4, 4, 8), 6, 16)).eval()


def words(*box, numbers=(0,) * 16):
    return "".join(f"<loc{i:04d}>" for i in box) + "".join(f"<seg{i:03d}>" for i in numbers)


def discs(count, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    found = []
    for _ in range(count):
        (cy, cx), (ry, rx) = rng.uniform(16, 48, 2), rng.uniform(10, 30, 2)
        found.append((((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1) * np.uint8(255))
    return torch.from_numpy(np.stack(found))


def test_parameters_have_the_published_names_and_shapes():
    shapes = {
        key: tuple(value.shape)
        for key, value in MaskCodec(CodecShape((16, 32, 64, 128), 512, 128)).state_dict().items()
    }
    assert set(shapes) == PUBLISHED
    assert shapes["_vq_vae._embedding"] == (128, 512) and shapes["decoder.0.weight"] == (128, 512, 1, 1)
    assert shapes["decoder.4.weight"] == (128, 128, 4, 4) and shapes["decoder.6.weight"] == (128, 64, 4, 4)
    assert shapes["decoder.12.weight"] == (1, 16, 1, 1) and shapes["decoder.2.net.4.weight"] == (128, 128, 1, 1)


def test_a_transposed_layer_is_flaxs():
    """flax's ConvTranspose(4, strides 2, padding 2, transpose_kernel) written out: dilate, pad, correlate, turned."""
    layer = small().decoder[4]
    x = torch.randn(1, layer.in_channels, 5, 5)
    dilated = torch.zeros(1, layer.in_channels, 9, 9)
    dilated[:, :, ::2, ::2] = x
    turned = layer.weight.flip(2, 3).transpose(0, 1)
    wanted = torch.nn.functional.conv2d(torch.nn.functional.pad(dilated, [2] * 4), turned, layer.bias)
    torch.testing.assert_close(layer(x), wanted, atol=1e-5, rtol=1e-5)
    assert wanted.shape[-1] == 10


def test_big_visions_file_loads_and_no_pickle_is_opened(tmp_path):
    codec, path = small(), tmp_path / "vae-oid.npz"
    arrays = {key: value.numpy() for key, value in codec.state_dict().items()}
    np.savez(path, **arrays, **{"_vq_vae._ema_cluster_size": np.zeros(128)})
    masks = discs(3, 0).float() / 255
    assert (load_codec(path).encode(masks) == codec.encode(masks)).all()
    np.savez(path, **{**arrays, "decoder.0.bias": np.array([object()])})
    with pytest.raises(InputError, match=r"vae-oid\.npz: cannot be read .*allow_pickle"):
        load_codec(path)
    np.savez(path, **{key: value for key, value in arrays.items() if key != "encoder.9.net.2.bias"})
    with pytest.raises(InputError, match=r"no weight 'encoder\.9\.net\.2\.bias'; give a mask codec"):
        load_codec(path)
    np.savez(path, **arrays, other=np.zeros(2))
    with pytest.raises(InputError, match="unknown weight 'other'"):
        load_codec(path)
    np.savez(path, **{**arrays, "decoder.6.bias": np.zeros(3)})
    with pytest.raises(InputError, match=r"'decoder\.6\.bias' is \[3\], expected \[8\]"):
        load_codec(path)
    np.savez(path, **{**arrays, "decoder.6.bias": np.full(8, np.nan)})
    with pytest.raises(InputError, match=r"'decoder\.6\.bias' holds values that are no finite numbers"):
        load_codec(path)
    path.write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read"):
        load_codec(path)


def test_a_codec_comes_back_from_its_folder(tmp_path):
    codec = small()
    codec.save(tmp_path / "codec", made_by="test")
    again = load_codec(tmp_path / "codec")
    for key, value in codec.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, atol=1e-3, rtol=1e-3)
    assert json.loads((tmp_path / "codec" / "config.json").read_text())["made_by"] == "test"
    (tmp_path / "codec" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="codec: cannot be read"):
        load_codec(tmp_path / "codec")


def test_numbers_are_those_of_the_nearest_codes():
    codec = small()
    vectors = codec.vectors(discs(4, 1).float() / 255)
    distance = ((vectors[:, :, None] - codec.codes.vectors) ** 2).sum(-1)
    assert (codec.encode(discs(4, 1).float() / 255) == distance.argmin(-1)).all()
    assert vectors.shape == (4, 16, 6)


def test_boxes_are_written_and_read_as_big_vision_does():
    mask = np.zeros((100, 200), dtype=bool)
    mask[10:60, 20:120] = True
    (text,) = mask_to_words(small(), [mask])
    assert text.startswith("<loc0102><loc0102><loc0614><loc0614><seg") and text.count("<seg") == 16
    (drawn,) = words_to_masks(FullSquare(), [text], [(100, 200)])
    expected = np.zeros_like(mask)  # 102 / 1023 of 100 is 9.97 and becomes 9; 614 / 1023 of 200 is 120.04
    expected[9:60, 19:120] = True
    assert (drawn == expected).all()
    (text,) = mask_to_words(small(), [mask], [(0.0, 0.0, 1.0, 1.0)])
    assert text.startswith("<loc0000><loc0000><loc1023><loc1023>")
    (drawn,) = words_to_masks(FullSquare(), [text], [(7, 9)])
    assert drawn.all() and drawn.shape == (7, 9)


def test_what_is_no_mask_is_none():
    valid = words(100, 100, 500, 500)
    cases = {
        valid: True,
        f"  {valid} and more": True,
        "the cat": False,
        "": False,
        f"it is {valid}": False,
        valid.removesuffix("<seg000>"): False,
        valid.replace("<loc0100>", "<loc1024>", 1): False,
        words(100, 100, 500, 500, numbers=(128,) * 16): False,
        words(500, 100, 100, 500): False,
        words(100, 100, 100, 500): False,
        words(100, 100, 101, 500): False,  # less than a pixel
    }
    found = words_to_masks(FullSquare(), list(cases), [(50, 50)] * len(cases))
    assert [mask is not None for mask in found] == list(cases.values())


def test_masks_are_cut_to_their_boxes():
    mask = np.zeros((40, 30), dtype=bool)
    mask[8:16, 3:30] = True
    assert own_box(mask) == (0.2, 0.1, 0.4, 1.0)
    assert cut(mask).shape == (64, 64) and cut(mask).min() == 255
    part = cut(mask, (0.2, 0.0, 0.4, 1.0))
    assert part[:, :5].max() == 0 and part[:, 8:].min() == 255
    with pytest.raises(InputError, match="mask 1: empty; leave the example out"):
        mask_to_words(small(), [mask, np.zeros_like(mask)])
    with pytest.raises(InputError, match=r"mask 0: its box .* is empty"):
        mask_to_words(small(), [mask], [(0.5, 0.5, 0.5, 0.5)])


def test_a_tokenizer_is_told_all_words():
    found = special_words()
    assert len(found) == 1024 + 128 and found[0] == "<loc0000>" and found[-1] == "<seg127>"


def test_a_codec_learns_and_the_same_seed_gives_the_same_one():
    config, losses = CodecConfig(width=16, code=8, steps=150, batch_size=8, lr=6e-3), []
    first = train_codec(discs(64, 0), config, lambda step, loss: losses.append(loss))
    assert losses[-1] < 0.7 * losses[0] and overlap(first, discs(32, 1)) > 0.5 > overlap(small(), discs(32, 1))
    short = replace(config, steps=4)
    again = [train_codec(discs(64, 0), short).state_dict() for _ in range(2)]
    assert all((again[0][key] == value).all() for key, value in again[1].items())
    with pytest.raises(InputError, match=r"expected \[N, 64, 64\] of bytes"):
        train_codec(torch.zeros(64, 32, 32), config)


def test_the_shipped_codec_is_small_and_gives_outlines_back():
    """What its file says of held-out outlines is asserted; shapes that it never saw come back, too."""
    about = json.loads((SHIPPED / "config.json").read_text())
    assert about["held_out_overlap"] >= 0.85 and about["held_out_outlines"] > 900
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 2**20
    codec, masks = load_codec(), discs(64, 3)
    assert overlap(codec, masks) > 0.9
    assert len(set(codec.encode(masks.float() / 255).flatten().tolist())) > 32
    whole = [mask.numpy() > 0 for mask in masks]
    back = words_to_masks(codec, mask_to_words(codec, whole), [mask.shape for mask in whole])
    found = [(one & two).sum() / (one | two).sum() for one, two in zip(whole, back, strict=True)]
    assert np.mean(found) > 0.85
