"""A codec trained from what a user has: every form of source, what is refused, a stop, and going on."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tests.understand.test_masks import discs
from vilex.cli.app import app
from vilex.errors import InputError
from vilex.understand.mask_codec import load_codec
from vilex.understand.mask_run import CHECKPOINTS, train_into
from vilex.understand.mask_sources import mask_of_picture, read_outlines
from vilex.understand.mask_training import CodecConfig
from vilex.understand.rle import write_mask

TINY = CodecConfig(width=8, code=4, steps=6, batch_size=4)


def disc(i=0):
    return discs(i + 1, 7)[i].numpy() > 0


@pytest.fixture
def folder(tmp_path):
    """Twenty pictures of masks, two of them of the same shape."""
    there = tmp_path / "masks"
    (there / "more").mkdir(parents=True)
    for i in range(20):
        picture = Image.fromarray(disc(i % 19).astype(np.uint8) * 255)
        picture.save(there / ("more" if i % 2 else ".") / f"{i}.png")
    return there


def test_a_picture_says_what_is_inside(tmp_path):
    mask, path = disc(), tmp_path / "a.png"
    zeros = np.zeros_like(mask, dtype=np.uint8)
    rgba = np.dstack([zeros, zeros, zeros, mask * np.uint8(255)])
    opaque = np.dstack([mask * np.uint8(255)] * 3 + [zeros + 255])
    for pixels in (mask, mask * np.uint8(255), mask * np.uint8(1), np.dstack([mask * np.uint8(255)] * 3), rgba, opaque):
        Image.fromarray(pixels).save(path)
        assert (mask_of_picture(path) == mask).all(), pixels.shape
    for pixels, line in (
        (zeros, "a.png: an empty mask, nothing in it is white; leave it out"),
        (np.arange(64, dtype=np.uint8).reshape(8, 8), "64 values below half, numbers of several masks"),
    ):
        Image.fromarray(pixels).save(path)
        with pytest.raises(InputError, match=line):
            mask_of_picture(path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n-")
    with pytest.raises(InputError, match=r"a\.png: cannot be read as a mask"):
        mask_of_picture(path)


def test_every_form_of_source_gives_the_same_outlines(tmp_path, folder):
    found = read_outlines(folder)
    assert found.seen == 20 and len(found.masks) == 19 and not found.bad
    packed = [write_mask(disc(i)) for i in range(19)]
    files = {"own.jsonl": [{"mask": one} for one in packed], "refer.jsonl": [], "named.jsonl": []}
    files["refer.jsonl"] = [{"image": "1.jpg", "height": 64, "width": 64, "samples": [{"mask": one}]} for one in packed]
    files["named.jsonl"] = [{"mask": f"masks/{'more/' if i % 2 else ''}{i}.png"} for i in range(19)]
    for name, lines in files.items():
        (tmp_path / name).write_text("\n".join(map(json.dumps, lines)))
    notes = [{"image_id": 1, "segmentation": one} for one in packed] + [{"image_id": 1, "iscrowd": 1}]
    (tmp_path / "instances.json").write_text(
        json.dumps({"images": [{"id": 1, "height": 64, "width": 64}], "annotations": notes})
    )
    for name in (*files, "instances.json"):
        other = read_outlines(tmp_path / name)
        assert sorted(map(bytes, other.masks.numpy())) == sorted(map(bytes, found.masks.numpy())), name
    learnt, tested = found.split(0.2, seed=3)
    assert len(learnt) == 15 and len(tested) == 4
    assert len({bytes(one) for one in torch.cat([learnt, tested]).numpy()}) == 19


def test_what_is_no_mask_is_named(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no masks in it; give a folder of pictures"):
        read_outlines(tmp_path / "empty")
    with pytest.raises(InputError, match=r"nowhere\.json: cannot be read"):
        read_outlines(tmp_path / "nowhere.json")
    path = tmp_path / "some.jsonl"
    good = [{"mask": write_mask(disc(i % 19))} for i in range(40)]
    lines = {
        "'mask': expected lengths of runs|'counts'": {"mask": {"size": [64, 64], "counts": "~"}},
        "line 41: no 'mask', only image": {"image": "a.jpg"},
        r"line 41: 'mask': an empty mask; leave it out": {"mask": write_mask(np.zeros((4, 4), bool))},
        "line 41: no 'height'": {"mask": [[0, 0, 1, 0, 1, 1]]},
        "lies outside": {"mask": "../a.png"},
    }
    for line, record in lines.items():
        path.write_text("\n".join(map(json.dumps, [*good, record])))
        (bad,) = read_outlines(path).bad
        assert any(part in bad for part in line.split("|")), bad
    path.write_text("\n".join(map(json.dumps, [*good[:3], record])))
    with pytest.raises(InputError, match=r"some\.jsonl: 1 of 4 masks cannot be used, the first: .*outside"):
        read_outlines(path)
    with pytest.raises(InputError, match="7 of them, expected 8 or more"):
        train_into(tmp_path / "out", discs(7, 0), discs(1, 1), TINY)


def test_a_stopped_training_goes_on_as_if_it_never_was(tmp_path):
    learnt, tested = discs(12, 0), discs(3, 1)
    whole = train_into(tmp_path / "whole", learnt, tested, TINY)
    assert whole["held_out_outlines"] == 3 and whole["outlines"] == 12

    def stop(step, steps):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    out = tmp_path / "parts"
    with pytest.raises(InputError, match="stopped at step 4 of 6; the same command goes on"):
        train_into(out, learnt, tested, TINY, done=stop)
    with pytest.raises(InputError, match="holds a training on other masks"):
        train_into(out, discs(12, 5), tested, TINY)
    with pytest.raises(InputError, match=r"holds a training with batch_size = 4, not 5; give another folder"):
        train_into(out, learnt, tested, CodecConfig(width=8, code=4, steps=6, batch_size=5))
    steps = []
    assert train_into(out, learnt, tested, TINY, done=lambda step, _: steps.append(step)) == whole
    assert steps == [5, 6] and not (out / CHECKPOINTS).exists()
    ours, theirs = load_codec(out).state_dict(), load_codec(tmp_path / "whole").state_dict()
    assert all((ours[key] == value).all() for key, value in theirs.items())


def test_the_command_writes_what_load_codec_reads(tmp_path, folder):
    out = tmp_path / "codec"
    for i in range(30):
        Image.fromarray(disc(i).astype(np.uint8) * 255).save(folder / f"a{i}.png")
    (folder / "bad.png").write_bytes(b"no picture")
    asked = ["understand", "masks", str(folder), "-o", str(out), "--steps", "3", "--width", "8", "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 2, done.output  # one was refused; the others made a codec
    summary = json.loads(done.stdout)
    assert summary["masks"] == 51 and "bad.png: cannot be read as a mask" in summary["refused"][0]
    kept = json.loads((out / "config.json").read_text())
    assert kept["held_out_overlap"] == summary["held_out_overlap"] and kept["shape"]["decoder"] == 8
    assert load_codec(out).encode(discs(2, 0).float()).shape == (2, 16)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]
    refused = CliRunner().invoke(app, asked)
    assert isinstance(refused.exception, InputError) and "config.json: exists; give another" in str(refused.exception)
