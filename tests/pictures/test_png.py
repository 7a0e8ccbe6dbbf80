"""PNGs that carry their settings."""

import io
import json

from PIL import Image

from vilex.pictures.png import CHUNK, to_png


def test_settings_come_back_and_the_picture_is_scaled():
    content = to_png(Image.new("RGB", (4, 3), "red"), {"prompt": "<Füße:4> \udce9", "seed": 7}, scale=2)
    back = Image.open(io.BytesIO(content))
    assert back.size == (8, 6) and back.convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    assert json.loads(back.text[CHUNK]) == {"prompt": "<Füße:4> \udce9", "seed": 7}
    assert back.text["Software"].startswith("vilex ")
