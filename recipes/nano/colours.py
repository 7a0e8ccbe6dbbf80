"""Colour words: the palette that paints grounds and the eye that names measured colours."""

import numpy as np

PALETTE: dict[str, tuple[int, int, int]] = {
    "black": (22, 22, 24),
    "white": (248, 248, 248),
    "grey": (128, 128, 130),
    "silver": (196, 198, 202),
    "red": (220, 42, 42),
    "maroon": (122, 26, 38),
    "orange": (245, 140, 32),
    "brown": (126, 76, 42),
    "beige": (234, 214, 176),
    "yellow": (250, 214, 52),
    "olive": (126, 126, 44),
    "lime": (160, 214, 62),
    "green": (46, 150, 62),
    "teal": (22, 128, 130),
    "cyan": (92, 212, 230),
    "sky": (150, 204, 250),
    "blue": (42, 96, 216),
    "navy": (26, 36, 92),
    "purple": (126, 60, 172),
    "lavender": (196, 166, 236),
    "pink": (246, 150, 190),
    "magenta": (220, 50, 150),
}
WORDS = tuple(PALETTE)
_VALUES = np.array(list(PALETTE.values()), dtype=np.float32)


def name_colours(rgb: np.ndarray) -> list[str]:
    """Name each colour by its nearest palette entry.

    The distance is the low-cost "redmean" approximation of a perceptual one
    (https://www.compuphase.com/cmetric.htm).

    Args:
        rgb: [n, 3], 0 to 255.
    """
    rgb = np.asarray(rgb, dtype=np.float32)[:, None]
    red_mean = (rgb[..., 0] + _VALUES[None, :, 0]) / 2
    difference = (rgb - _VALUES[None]) ** 2
    distance = (
        (2 + red_mean / 256) * difference[..., 0]
        + 4 * difference[..., 1]
        + (2 + (255 - red_mean) / 256) * difference[..., 2]
    )
    return [WORDS[i] for i in distance.argmin(axis=1)]
