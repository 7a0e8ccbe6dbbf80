"""Masks: their form, what a patch is, and overlaps by hand."""

import numpy as np
import pytest
import torch
from PIL import Image

from vilex.errors import InputError
from vilex.eval.eyesight.masked import IGNORED, counted_patches, overlap_of, patch_labels, read_masked
from vilex.eval.eyesight.probes import LinearProbe


def test_a_patch_is_what_most_of_its_pixels_are():
    mask = np.zeros((8, 12), dtype=np.uint8)
    mask[:4, :6] = 2
    mask[0, 0] = 1
    mask[4:, 6:] = IGNORED
    mask[7, 11] = 1
    assert patch_labels(mask, 2, 3).tolist() == [2, 0, 0, 1]
    mask[7, 11] = IGNORED
    assert patch_labels(mask, 2, 3).tolist() == [2, 0, 0, IGNORED]
    patches, labels = counted_patches(torch.arange(8.0).reshape(1, 4, 2), np.array([[2, 0, 0, IGNORED]]))
    assert labels.tolist() == [2, 0, 0] and patches.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_overlaps_are_counted_at_the_mask_s_own_size():
    probe = LinearProbe(torch.eye(2), torch.zeros(2), torch.zeros(2), torch.ones(2))
    patches = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])  # left is 0, right is 1
    mask = np.repeat([[0, 0, 1, 1]], 4, 0).astype(np.uint8)
    both, either, right = overlap_of(probe, patches, mask)
    assert both.tolist() == [8, 8] and either.tolist() == [8, 8] and right == 1
    mask[0] = IGNORED
    mask[1] = 0
    both, either, right = overlap_of(probe, patches, mask)
    assert both.tolist() == [6, 4] and either.tolist() == [8, 6] and right == pytest.approx(10 / 12)


def test_published_folders_are_read_under_their_own_names(masked, tmp_path):
    assert read_masked(masked).classes == ("ground", "blue", "green", "red") and len(read_masked(masked)) == 20
    for pictures, masks in (("images", "annotations"), ("JPEGImages", "SegmentationClass")):
        root = tmp_path / masks
        for kind in (pictures, masks):
            (root / kind / "training").mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(root / pictures / "training" / "a.jpg")
        mask = Image.fromarray(np.full((9, 9), 3, dtype=np.uint8))
        mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
        mask.save(root / masks / "training" / "a.png")
        Image.new("RGB", (9, 9)).save(root / pictures / "training" / "without.jpg")
        found = read_masked(root)
        assert len(found) == 1 and found.classes == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("mode", "value", "names", "line"),
    [
        ("RGB", (1, 1, 1), "a\nb", r"a\.png: a mask of mode RGB; expected one value a pixel"),
        ("L", 4, "a\nb", "a mask has the value 4, but classes.txt names 2 classes"),
        ("L", 0, "", "masks of one class alone"),
    ],
)
def test_what_is_no_mask_is_one_line(tmp_path, mode, value, names, line):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "a.png")
    Image.new(mode, (9, 9), value).save(tmp_path / "masks" / "a.png")
    (tmp_path / "classes.txt").write_text(names)
    with pytest.raises(InputError, match=line):
        read_masked(tmp_path)


def test_folders_without_pairs_are_one_line(tmp_path):
    with pytest.raises(InputError, match="no folders images and masks in it"):
        read_masked(tmp_path)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(InputError, match="no picture in images has a mask of its name in masks"):
        read_masked(tmp_path)
    (tmp_path / "masks" / "a.png").write_bytes(b"x")
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "a.png")
    with pytest.raises(InputError, match=r"a\.png: damaged mask"):
        read_masked(tmp_path)
