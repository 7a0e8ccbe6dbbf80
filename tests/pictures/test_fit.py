"""Pictures brought to another shape."""

import numpy as np
import pytest
from PIL import Image

from vilex.pictures.fit import FITS, fitted, share_cut, square


@pytest.fixture
def wide():
    """90 x 30 pixels: red, green, blue squares."""
    image = Image.new("RGB", (90, 30))
    for i, colour in enumerate(("red", "lime", "blue")):
        image.paste(colour, (30 * i, 0, 30 * i + 30, 30))
    return image


def test_crop_pad_and_squash(wide):
    assert np.array_equal(np.asarray(square(wide, 30)), np.asarray(wide.crop((30, 0, 60, 30))))
    padded = fitted(wide, 90, 90, "pad")
    assert padded.crop((0, 30, 90, 60)).tobytes() == wide.tobytes()
    assert {padded.getpixel((x, y)) for x in (0, 89) for y in (0, 29, 60, 89)} == {(255, 255, 255)}
    squashed = fitted(wide, 30, 30, "squash")
    assert [squashed.getpixel((x, 15)) for x in (3, 15, 26)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(90, 30), (17, 64), (1, 1), (3, 1000)])
def test_every_shape_comes_out_as_asked(wide, fit, size):
    assert fitted(wide, *size, fit).size == size and fitted(wide.rotate(90, expand=True), *size, fit).size == size


@pytest.mark.parametrize("fit", FITS)
def test_what_has_the_shape_is_only_resized(wide, fit):
    assert fitted(wide, 90, 30, fit).tobytes() == wide.tobytes()
    assert fitted(wide, 45, 15, fit).tobytes() == wide.resize((45, 15), Image.Resampling.BICUBIC).tobytes()


def test_how_much_a_crop_cuts_away():
    assert share_cut((90, 30), 64, 64) == pytest.approx(2 / 3) and share_cut((30, 90), 64, 64) == pytest.approx(2 / 3)
    assert share_cut((90, 30), 192, 64) == 0 and share_cut((3, 2), 2, 3) == pytest.approx(1 - 4 / 9)
