"""Captions a person would write, each true of its scene: the name; a sentence of some facts; a sentence of all."""

import numpy as np

from recipes.nano.scenes import Ground, Placed, Scene
from recipes.nano.sprites import STYLES

_PLACE_WORDS = {
    "snow": ("in the snow", "on snow", "in a snowy place"),
    "grass": ("on the grass", "in a meadow", "on green grass"),
    "night": ("at night", "in the night", "under the stars"),
    "beach": ("on the beach", "at the beach", "by the sea"),
    "water": ("under water", "in the water"),
}
_PLURALS = (
    *("cherries", "fries", "grapes", "sunglasses", "chopsticks", "tickets", "bubbles", "peanuts", "dna", "bacon"),
    *("butter", "wood", "pong", "sake"),
)


def captions_of(scene: Scene, rng: np.random.Generator) -> list[str]:
    """The bare name(s), a sentence, and a dense one that leaves out nothing."""
    return [_name(scene, rng), _sentence(scene, rng), _dense(scene, rng)]


def _name(scene: Scene, rng: np.random.Generator) -> str:
    names = [_noun(placed, rng) for placed in scene.objects]
    return _lead(rng) + " and ".join(names)


def _sentence(scene: Scene, rng: np.random.Generator) -> str:
    """Name, size, style, place and ground, in varied wording; each part may be left out."""
    styles = {placed.sprite.style for placed in scene.objects}
    shared_style = len(styles) == 1
    parts = []
    if len(scene.objects) == 1:
        (placed,) = scene.objects
        parts.append(_noun(placed, rng, size=True))
        if rng.random() < 0.6 and placed.size < 50:
            parts.append(_position(placed, rng))
    else:
        first, second = scene.objects
        own = not shared_style and rng.random() < 0.5
        left, right = (_noun(placed, rng, style=own) for placed in (first, second))
        parts.append(_relation(first, second, left, right) if rng.random() < 0.7 else f"{left} and {right}")
    tail = [_ground(scene.ground, rng)] if rng.random() < 0.85 else []
    if shared_style and rng.random() < 0.85:
        tail.append("in " + str(rng.choice(STYLES[styles.pop()])))
    if len(tail) == 2 and rng.random() < 0.5:
        tail.reverse()
    return _lead(rng) + ", ".join([" ".join(parts + tail[:1]), *tail[1:]])


def _dense(scene: Scene, rng: np.random.Generator) -> str:
    """Size, colours, name, style, place or relation, and ground of everything there is."""
    if len(scene.objects) == 1:
        (placed,) = scene.objects
        parts = f"{_detailed(placed, rng)} {_position(placed, rng)}"
    else:
        first, second = scene.objects
        parts = _relation(first, second, _detailed(first, rng), _detailed(second, rng))
    return f"{_lead(rng)}{parts}{rng.choice([' ', ', '])}{_ground(scene.ground, rng)}"


def _detailed(placed: Placed, rng: np.random.Generator) -> str:
    """`a big red and white mushroom in flat style`."""
    size = {32: "small", 48: "medium"}.get(placed.size, str(rng.choice(["big", "large"])))
    words = [size, " and ".join(placed.sprite.colours), placed.sprite.word]
    return f"{with_article(' '.join(word for word in words if word))} in {rng.choice(STYLES[placed.sprite.style])}"


def _lead(rng: np.random.Generator) -> str:
    return str(rng.choice(["", "", "a picture of ", "an image of ", "a photo of "]))


def _noun(placed: Placed, rng: np.random.Generator, size: bool = False, style: bool = False) -> str:
    word = placed.sprite.word
    if size and rng.random() < 0.6:
        if placed.size < 38:
            word = f"small {word}"
        elif placed.size >= 50:
            word = f"{rng.choice(['big', 'large'])} {word}"
    if style:
        word = f"{word} in {rng.choice(STYLES[placed.sprite.style])}"
    return with_article(word)


def with_article(word: str) -> str:
    """`a cat`, `an owl`, `grapes`."""
    if word.split(" in ")[0].endswith(_PLURALS):
        return word
    article = "an" if word[0] in "aeiou" and not word.startswith("uni") else "a"
    return f"{article} {word}"


def _position(placed: Placed, rng: np.random.Generator) -> str:
    vertical = "top" if placed.y < 27 else "bottom" if placed.y > 37 else ""
    horizontal = "left" if placed.x < 27 else "right" if placed.x > 37 else ""
    if not vertical and not horizontal:
        return str(rng.choice(["in the middle", "in the center"]))
    return f"at the {vertical} {horizontal}".replace("  ", " ").strip()


def _relation(first: Placed, second: Placed, left: str, right: str) -> str:
    if abs(first.x - second.x) > abs(first.y - second.y):
        return f"{left} to the {'left' if first.x < second.x else 'right'} of {right}"
    return f"{left} {'above' if first.y < second.y else 'below'} {right}"


def _ground(ground: Ground, rng: np.random.Generator) -> str:
    if ground.kind == "place":
        return str(rng.choice(_PLACE_WORDS[ground.words[0]]))
    noun = rng.choice(["background", "ground"])
    if ground.kind == "plain":
        return f"on a {ground.words[0]} {noun}"
    top, bottom = ground.words
    return str(rng.choice([f"on a {noun} from {top} to {bottom}", f"on a {top} to {bottom} gradient"]))
