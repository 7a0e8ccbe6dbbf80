import numpy as np
from PIL import Image

from vilex.pictures.grid import grid


def test_long_titles_stay_over_their_column():
    picture = Image.new("RGB", (8, 8), "red")
    long = grid([[picture, picture]], ["one rather long title", "2"], size=60)
    short = grid([[picture, picture]], ["1", "2"], size=60)
    assert long.width == short.width and long.height > short.height
    between = np.asarray(long)[: long.height - 64, 61:66]  # from the end of the first column to the second title
    assert (between == 255).all()


def test_missing_pictures_are_left_white():
    drawn = np.asarray(grid([[None, Image.new("RGB", (8, 8), "red")]], size=8))
    assert (drawn[4:12, 4:12] == 255).all() and (drawn[4:12, 16:24] == (255, 0, 0)).all()
