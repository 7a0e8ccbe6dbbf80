"""Short clips: one thing of a scene moves, grows, shrinks, comes or vanishes, and which is known.

Frames go to a language model side by side, as MSR-VTT's do; nothing in a single frame tells the answer.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from recipes.nano.sprites import Sprite
from recipes.nano.understanding.questions import Question, caption_of
from recipes.nano.understanding.scenes import SIDE, Thing, WideScene, random_wide_scene

FRAMES = 4
CLIP = "clip"
CHANGES = ("moves left", "moves right", "moves up", "moves down", "grows", "shrinks", "comes", "vanishes")
STEP = 12  # pixels that a thing moves from frame to frame; as it grows, half of that a side


@dataclass(frozen=True)
class Clip:
    """`FRAMES` scenes, in which thing number `thing` does `change`."""

    scenes: tuple[WideScene, ...]
    thing: int
    change: str

    def render(self) -> list[Image.Image]:
        """RGB frames in their order."""
        return [scene.render() for scene in self.scenes]

    def questions(self) -> list[Question]:
        """What happens, and the whole as a caption."""
        word = self._fullest.things[self.thing].sprite.word
        return [
            Question(CLIP, "answer en what happens?", f"the {word} {self.change}"),
            Question("clip-caption", "caption en", f"{caption_of(self._fullest)}, and the {word} {self.change}"),
        ]

    @property
    def _fullest(self) -> WideScene:
        return max((self.scenes[0], self.scenes[-1]), key=lambda scene: len(scene.things))


def random_clip(
    sprites: list[Sprite], rng: np.random.Generator, first: Sprite | None = None, about: int | None = None
) -> Clip:
    """A clip of two things, of which one changes, by default either; `first`, if given, is the first of them."""
    while True:
        scene = replace(random_wide_scene(sprites, rng, first, count=2), sign=None)
        i, change = int(rng.integers(2)) if about is None else about, str(rng.choice(CHANGES))
        frames = [_at(scene, i, change, number) for number in range(FRAMES)]
        if all(frame is not None for frame in frames):
            return Clip(tuple(frame for frame in frames if frame is not None), i, change)


def _at(scene: WideScene, i: int, change: str, number: int) -> WideScene | None:
    """The scene in a frame; None if things would meet or leave the picture."""
    thing = scene.things[i]
    if change in ("comes", "vanishes"):
        gone = (number < FRAMES // 2) == (change == "comes")
        return WideScene(scene.ground, scene.things[:i] + scene.things[i + 1 :] if gone else scene.things)
    x, y, size = thing.x, thing.y, thing.size
    along = {"moves left": (-1, 0), "moves right": (1, 0), "moves up": (0, -1), "moves down": (0, 1)}
    if change in along:
        x, y = x + along[change][0] * STEP * number, y + along[change][1] * STEP * number
    else:
        by = STEP // 2 * (number if change == "grows" else FRAMES - 1 - number)
        x, y, size = x - by // 2, y - by // 2, size + by
    moved = replace(thing, x=x, y=y, size=size)
    if min(x, y) < 0 or max(x, y) + size > SIDE or any(_meet(moved, other) for other in scene.things if other != thing):
        return None
    return WideScene(scene.ground, (*scene.things[:i], moved, *scene.things[i + 1 :]))


def _meet(a: Thing, b: Thing) -> bool:
    return a.x < b.x + b.size and b.x < a.x + a.size and a.y < b.y + b.size and b.y < a.y + a.size
