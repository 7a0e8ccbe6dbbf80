"""What can be asked of a scene, each answer true by construction.

Prefixes and suffixes are PaliGemma's: `caption en`, `answer en ...`, and for a mask the expression that means it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recipes.nano.captions import with_article
from recipes.nano.scenes import Ground
from recipes.nano.sprites import STYLES
from recipes.nano.understanding.scenes import Thing, WideScene

NUMBERS = ("no", "one", "two", "three", "four")
GROUNDS = {"snow": "in the snow", "grass": "on the grass", "night": "at night", "beach": "on the beach",
           "water": "under water"}  # fmt: skip
CAPTION, REFER = "caption", "refer"
KINDS = (CAPTION, "ground", "count", "what", "style", "colour", "where", "size", "relation", "is-there", "sign", REFER)


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        kind: of `KINDS`; results are told by kind.
        prefix, suffix: what is asked and answered; of `refer` the suffix is made of `thing`'s mask.
        thing: the index of what is meant, of `refer`.
    """

    kind: str
    prefix: str
    suffix: str
    thing: int | None = None


def questions_of(
    scene: WideScene, rng: np.random.Generator, words: list[str], about: int | None = None
) -> list[Question]:
    """One question of each kind that the scene has an answer to.

    Args:
        words: all concepts' words, for what is not there.
        about: the thing that is asked about; by default one at random for each question.
    """
    asked = [Question(CAPTION, "caption en", caption_of(scene))]
    asked += [Question(kind, f"answer en {text}", answer) for kind, text, answer in _asked(scene, rng, words, about)]
    i = int(rng.integers(len(scene.things))) if about is None else about
    return [*asked, Question(REFER, expression_of(scene, i, rng), "", i)]


def caption_of(scene: WideScene) -> str:
    """Everything but the places: things by size, colours and style, the sign, the ground."""
    named = [_noun(thing) for thing in scene.things]
    if scene.sign:
        named.append(f"a sign that says {scene.sign.text}")
    listed = f"{', '.join(named[:-1])} and {named[-1]}" if len(named) > 1 else named[0]
    return f"{listed} {ground_of(scene.ground)}"


def expression_of(scene: WideScene, i: int, rng: np.random.Generator) -> str:
    """Words that mean one thing of a scene and no other: its name, its place, or its size and style among the rest."""
    thing, others = scene.things[i], [one for j, one in enumerate(scene.things) if j != i]
    means = [f"the {thing.sprite.word}"]
    if all(one.place != thing.place for one in others):
        means.append(f"the thing at the {thing.place}")
    if others and all(one.big != thing.big for one in others):
        means.append(f"the {thing.big} thing")
    if others and all(one.sprite.style != thing.sprite.style for one in others):
        means.append(f"the thing in {STYLES[thing.sprite.style][0]}")
    return str(rng.choice(means))


def ground_of(ground: Ground) -> str:
    """`on the beach`, `on red`, `on red over blue`."""
    return GROUNDS[ground.words[0]] if ground.kind == "place" else f"on {' over '.join(ground.words)}"


def _asked(
    scene: WideScene, rng: np.random.Generator, words: list[str], about: int | None
) -> Iterator[tuple[str, str, str]]:
    """Kind, question and answer."""
    things = scene.things

    def any_thing() -> Thing:
        return things[int(rng.integers(len(things))) if about is None else about]

    yield "ground", "what is it on?", ground_of(scene.ground)
    yield "count", "how many things are there?", NUMBERS[len(things)]
    thing = any_thing()
    yield "what", f"what is at the {thing.place}?", thing.sprite.word
    thing = any_thing()
    yield "style", f"in what style is the {thing.sprite.word}?", STYLES[thing.sprite.style][0]
    if colours := (thing := any_thing()).sprite.colours:
        yield "colour", f"what colour is the {thing.sprite.word}?", colours[0]
    thing = any_thing()
    yield "where", f"where is the {thing.sprite.word}?", thing.place
    thing = any_thing()
    yield "size", f"how large is the {thing.sprite.word}?", thing.big
    if len(things) > 1:
        first = any_thing()
        others = [thing for thing in things if thing != first]
        yield "relation", *_relation(first, others[int(rng.integers(len(others)))], rng)
    yield "is-there", *_presence(things, words, rng)
    if scene.sign:
        yield "sign", "what does the sign say?", scene.sign.text


def _relation(first: Thing, second: Thing, rng: np.random.Generator) -> tuple[str, str]:
    """Whether one thing is on one side of another, along the axis on which they are further apart."""
    (x1, y1), (x2, y2) = first.centre, second.centre
    if abs(x1 - x2) > abs(y1 - y2):
        sides, holds = ("to the left of", "to the right of"), x1 < x2
    else:
        sides, holds = ("above", "below"), y1 < y2
    asked = int(rng.integers(2))
    text = f"is the {first.sprite.word} {sides[asked]} the {second.sprite.word}?"
    return text, "yes" if holds == (asked == 0) else "no"


def _presence(things: tuple[Thing, ...], words: list[str], rng: np.random.Generator) -> tuple[str, str]:
    """Whether something is there; as often yes as no."""
    there = [thing.sprite.word for thing in things]
    if rng.random() < 0.5:
        return f"is there {with_article(str(rng.choice(there)))}?", "yes"
    absent = [word for word in words if word not in there]
    return f"is there {with_article(absent[int(rng.integers(len(absent)))])}?", "no"


def _noun(thing: Thing) -> str:
    words = [thing.big, " and ".join(thing.sprite.colours[:2]), thing.sprite.word]
    return f"{with_article(' '.join(word for word in words if word))} in {STYLES[thing.sprite.style][0]}"
