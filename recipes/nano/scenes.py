"""Scenes: one or two sprites on a ground, each fact known, so that every caption can be truthful."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from recipes.nano.colours import PALETTE, WORDS
from recipes.nano.sprites import Sprite

SIZE = 64  # pixels, both sides
RASTER = 8  # pixels of a latent: a drawing on this raster has the same latents wherever it stands
SIZES = (32, 48, 56)  # small, plain and big drawings, each on one raster
SHARES = (0.15, 0.25, 0.6)
PLACES = ("snow", "grass", "night", "beach", "water")
_DARK = {word for word, rgb in PALETTE.items() if sum(rgb) < 330}


@dataclass(frozen=True)
class Ground:
    """What lies behind: `plain` (one colour word), `gradient` (two, top and bottom) or a place."""

    kind: str
    words: tuple[str, ...]
    pixels: np.ndarray  # [SIZE, SIZE, 3] uint8


@dataclass(frozen=True)
class Placed:
    """A sprite scaled to `size` pixels with its centre at (x, y)."""

    sprite: Sprite
    x: int
    y: int
    size: int


@dataclass(frozen=True)
class Scene:
    ground: Ground
    objects: tuple[Placed, ...]

    def render(self) -> np.ndarray:
        """[SIZE, SIZE, 3] uint8."""
        canvas = Image.fromarray(self.ground.pixels).convert("RGBA")
        for placed in self.objects:
            sprite = placed.sprite.image.resize((placed.size, placed.size), Image.LANCZOS)
            canvas.alpha_composite(_clamped(sprite), (placed.x - placed.size // 2, placed.y - placed.size // 2))
        return np.asarray(canvas.convert("RGB"))


def random_scene(
    sprites: list[Sprite], rng: np.random.Generator, first: Sprite | None = None, alone: float = 0.75
) -> Scene:
    """Draw a scene of one sprite (a share `alone` of them) or two; `first`, if given, is one of them."""
    count = 1 if rng.random() < alone else 2
    chosen = [sprites[i] for i in rng.choice(len(sprites), count, replace=False)]
    if first is not None:
        chosen[0] = first
    needs_light = any(sprite.style == "fluent-mono" for sprite in chosen)
    ground = random_ground(rng, light=needs_light)
    return Scene(ground, _place_one(chosen[0], rng) if count == 1 else _place_two(chosen, rng))


def random_ground(rng: np.random.Generator, light: bool = False) -> Ground:
    """A ground of a random kind; `light` keeps dark colours out, for black drawings."""
    words = [word for word in WORDS if not (light and word in _DARK)]
    kind = rng.choice(["plain", "gradient", "place"], p=[0.45, 0.15, 0.4])
    if kind == "plain":
        word = str(rng.choice(words))
        return Ground("plain", (word,), _flat(_jitter(word, rng)))
    if kind == "gradient":
        top, bottom = (str(word) for word in rng.choice(words, 2, replace=False))
        return Ground("gradient", (top, bottom), _fade(_jitter(top, rng), _jitter(bottom, rng)))
    places = [place for place in PLACES if not (light and place in ("night", "water"))]
    place = str(rng.choice(places))
    return Ground("place", (place,), _PAINT[place](rng))


def _place_one(sprite: Sprite, rng: np.random.Generator) -> tuple[Placed, ...]:
    size = int(rng.choice(SIZES, p=SHARES))
    return (_placed(sprite, *_corner(size, rng), size),)


def _place_two(sprites: list[Sprite], rng: np.random.Generator) -> tuple[Placed, ...]:
    small = SIZES[0]
    along = [0, SIZE - small]
    if rng.random() < 0.5:
        along.reverse()
    across = [int(rng.choice([RASTER, 2 * RASTER, 3 * RASTER])) for _ in along]
    corners = zip(along, across, strict=True) if rng.random() < 0.6 else zip(across, along, strict=True)
    return tuple(_placed(sprite, *corner, small) for sprite, corner in zip(sprites, corners, strict=True))


def _corner(size: int, rng: np.random.Generator) -> tuple[int, int]:
    """Left and top, on the raster; what nearly fills the picture stands in its middle."""
    room = SIZE - size
    if room <= RASTER:
        return room // 2, room // 2
    left, top = rng.integers(0, room // RASTER + 1, 2) * RASTER
    return int(left), int(top)


def _placed(sprite: Sprite, left: int, top: int, size: int) -> Placed:
    return Placed(sprite, left + size // 2, top + size // 2, size)


def _clamped(sprite: Image.Image) -> Image.Image:
    """Undo Lanczos ringing on the alpha channel: faint halos would be drawn as dirt."""
    pixels = np.asarray(sprite).copy()
    pixels[..., 3] = np.where(pixels[..., 3] < 8, 0, pixels[..., 3])
    return Image.fromarray(pixels)


def _jitter(word: str, rng: np.random.Generator) -> np.ndarray:
    return np.clip(np.array(PALETTE[word]) + rng.normal(0, 6, 3), 0, 255)


def _flat(colour: np.ndarray) -> np.ndarray:
    return np.broadcast_to(colour.astype(np.uint8), (SIZE, SIZE, 3)).copy()


def _fade(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    weight = np.linspace(0, 1, SIZE)[:, None, None]
    return np.broadcast_to(top * (1 - weight) + bottom * weight, (SIZE, SIZE, 3)).astype(np.uint8)


def _dots(pixels: np.ndarray, rng: np.random.Generator, count: int, colour: tuple[int, int, int], rows: slice) -> None:
    ys = rng.integers(rows.start, rows.stop - 1, count)
    xs = rng.integers(0, SIZE - 1, count)
    for y, x in zip(ys, xs, strict=True):
        pixels[y : y + 2, x : x + 2] = colour


def _two_bands(rng: np.random.Generator, top: str, bottom: str, horizon: int) -> np.ndarray:
    pixels = _flat(_jitter(top, rng))
    pixels[horizon:] = _jitter(bottom, rng).astype(np.uint8)
    return pixels


def _snow(rng: np.random.Generator) -> np.ndarray:
    pixels = _two_bands(rng, "sky", "white", int(rng.integers(40, 48)))
    _dots(pixels, rng, 24, (255, 255, 255), slice(0, SIZE))
    return pixels


def _grass(rng: np.random.Generator) -> np.ndarray:
    horizon = int(rng.integers(38, 48))
    pixels = _two_bands(rng, "sky", "green", horizon)
    _dots(pixels, rng, 12, (30, 110, 45), slice(horizon + 2, SIZE))
    return pixels


def _night(rng: np.random.Generator) -> np.ndarray:
    pixels = _fade(np.array([12, 14, 38]), _jitter("navy", rng))
    _dots(pixels, rng, 14, (250, 245, 200), slice(0, SIZE))
    return pixels


def _beach(rng: np.random.Generator) -> np.ndarray:
    horizon = int(rng.integers(24, 32))
    pixels = _two_bands(rng, "sky", "blue", horizon)
    pixels[horizon + 12 :] = _jitter("beige", rng).astype(np.uint8)
    return pixels


def _water(rng: np.random.Generator) -> np.ndarray:
    pixels = _fade(_jitter("cyan", rng), _jitter("blue", rng))
    _dots(pixels, rng, 10, (215, 245, 255), slice(0, SIZE))
    return pixels


_PAINT = {"snow": _snow, "grass": _grass, "night": _night, "beach": _beach, "water": _water}
