"""Scenes of one to four drawings and at times a sign, at 128 pixels, where every fact is known.

The embedded tower sees a scene at 64 pixels and its quarters at their own size, so a smaller drawing or the digits of
a sign are there for who looks twice.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from recipes.nano.scenes import Ground, random_ground
from recipes.nano.sprites import Sprite

SIDE = 128  # pixels, both sides
CELLS = 3  # a side: a drawing's place is one of nine
PLACES = ("top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right")
COUNTS = (1, 2, 3, 4)
COUNT_SHARES = (0.3, 0.4, 0.15, 0.15)
SIZES = {"small": (16, 20), "medium": (28, 34), "large": (40, 42)}  # pixels, from and to, where several share a scene
ALONE = {"small": (20, 32), "medium": (44, 60), "large": (80, 100)}
SIGN_SHARE = 0.4
SIGN = (38, 26)  # pixels, width and height: digits of 18 pixels, nine as the tower sees the whole


@dataclass(frozen=True)
class Thing:
    """A drawing of `size` pixels with its left top corner at (x, y); `big` is what a caption calls its size."""

    sprite: Sprite
    x: int
    y: int
    size: int
    big: str

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.size / 2, self.y + self.size / 2

    @property
    def place(self) -> str:
        """The cell of its centre."""
        column, row = (min(CELLS - 1, int(value * CELLS / SIDE)) for value in self.centre)
        return PLACES[row * CELLS + column]


@dataclass(frozen=True)
class Sign:
    """A white board with two digits, its left top corner at (x, y)."""

    text: str
    x: int
    y: int


@dataclass(frozen=True)
class WideScene:
    """A ground and what stands on it; no two things overlap, and no two are of one concept."""

    ground: Ground
    things: tuple[Thing, ...]
    sign: Sign | None = None

    def render(self) -> Image.Image:
        """RGB, `SIDE` pixels a side."""
        canvas = Image.fromarray(self.ground.pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST).convert("RGBA")
        for thing in self.things:
            canvas.alpha_composite(_scaled(thing), (thing.x, thing.y))
        if self.sign:
            _write(canvas, self.sign)
        return canvas.convert("RGB")

    def mask(self, thing: Thing) -> np.ndarray:
        """Where a thing is, [SIDE, SIDE] bool."""
        found = np.zeros((SIDE, SIDE), dtype=bool)
        alpha = np.asarray(_scaled(thing))[..., 3] >= 128
        found[thing.y : thing.y + thing.size, thing.x : thing.x + thing.size] = alpha
        return found


def random_wide_scene(
    sprites: list[Sprite], rng: np.random.Generator, first: Sprite | None = None, count: int | None = None
) -> WideScene:
    """Draw a scene of `count` things (one to four by default), `first` among them if it is given."""
    count = count or int(rng.choice(COUNTS, p=COUNT_SHARES))
    chosen = _distinct(sprites, rng, first, count)
    ground = random_ground(rng, light=any(sprite.style == "fluent-mono" for sprite in chosen))
    if count == 1:
        thing = _alone(chosen[0], rng)
        free = [cell for cell in range(CELLS**2) if not _touches(thing, cell)]
        things: tuple[Thing, ...] = (thing,)
    else:
        cells = [int(cell) for cell in rng.permutation(CELLS**2)]
        things = tuple(_in_cell(sprite, cell, rng) for sprite, cell in zip(chosen, cells, strict=False))
        free = cells[count:]
    sign = _sign(int(rng.choice(free)), rng) if free and rng.random() < SIGN_SHARE else None
    return WideScene(ground, things, sign)


def _distinct(sprites: list[Sprite], rng: np.random.Generator, first: Sprite | None, count: int) -> list[Sprite]:
    """Drawings of `count` concepts."""
    chosen = [first] if first is not None else []
    while len(chosen) < count:
        sprite = sprites[int(rng.integers(len(sprites)))]
        if sprite.word not in {one.word for one in chosen}:
            chosen.append(sprite)
    return chosen


def _alone(sprite: Sprite, rng: np.random.Generator) -> Thing:
    big = str(rng.choice(list(ALONE)))
    low, high = ALONE[big]
    size = int(rng.integers(low // 2, high // 2 + 1)) * 2
    x, y = (int(value) for value in rng.integers(0, SIDE - size + 1, 2))
    return Thing(sprite, x, y, size, big)


def _in_cell(sprite: Sprite, cell: int, rng: np.random.Generator) -> Thing:
    big = str(rng.choice(list(SIZES)))
    low, high = SIZES[big]
    size = int(rng.integers(low // 2, high // 2 + 1)) * 2
    x, y = _corner(cell, (size, size), rng)
    return Thing(sprite, x, y, size, big)


def _corner(cell: int, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """A left top corner within a cell."""
    room = SIDE // CELLS
    left, top = (cell % CELLS) * SIDE // CELLS, (cell // CELLS) * SIDE // CELLS
    x, y = (int(rng.integers(0, max(1, room - side + 1))) for side in size)
    return left + x, top + y


def _touches(thing: Thing, cell: int) -> bool:
    left, top, side = (cell % CELLS) * SIDE / CELLS, (cell // CELLS) * SIDE / CELLS, SIDE / CELLS
    apart_x = thing.x >= left + side or thing.x + thing.size <= left
    return not (apart_x or thing.y >= top + side or thing.y + thing.size <= top)


def _sign(cell: int, rng: np.random.Generator) -> Sign:
    return Sign(str(rng.integers(10, 100)), *_corner(cell, SIGN, rng))


def _scaled(thing: Thing) -> Image.Image:
    """The drawing at its size, without the faint halo that Lanczos leaves on its alpha."""
    pixels = np.asarray(thing.sprite.image.resize((thing.size, thing.size), Image.Resampling.LANCZOS)).copy()
    pixels[..., 3] = np.where(pixels[..., 3] < 8, 0, pixels[..., 3])
    return Image.fromarray(pixels)


def _write(canvas: Image.Image, sign: Sign) -> None:
    draw, (width, height) = ImageDraw.Draw(canvas), SIGN
    board = (sign.x, sign.y, sign.x + width - 1, sign.y + height - 1)
    draw.rectangle(board, fill="white", outline="black", width=2)
    font = ImageFont.load_default(24)
    draw.text((sign.x + width / 2, sign.y + height / 2), sign.text, fill="black", font=font, anchor="mm")
