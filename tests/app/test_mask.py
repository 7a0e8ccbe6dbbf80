"""Masks as the page paints them."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from vilex.app.mask import MOST, PREFIX, read_mask
from vilex.errors import InputError


def painted(size=(40, 30)):
    picture = Image.new("L", size)
    picture.paste(255, (0, 0, size[0] // 2, size[1]))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return PREFIX + base64.b64encode(content.getvalue()).decode()


def test_a_mask_comes_at_the_picture_s_size():
    mask = np.asarray(read_mask(painted(), (80, 60)))
    assert mask.shape == (60, 80) and mask[:, :38].min() == 255 and mask[:, 42:].max() == 0


def test_nothing_painted_is_no_mask():
    assert read_mask("", (8, 8)) is None and read_mask(None, (8, 8)) is None


@pytest.mark.parametrize(
    "value",
    ["http://127.0.0.1/mask.png", "data:text/html;base64,PGI+", PREFIX + "!!", PREFIX + "AAAA", PREFIX + "A" * MOST, 7],
)
def test_anything_else_is_one_line(value):
    with pytest.raises(InputError, match=r"^mask: ") as at:
        read_mask(value, (8, 8))
    assert len(str(at.value)) < 150
