"""The emoji sprites: which concepts the nano model knows, in which styles, and which are held out."""

import hashlib
import io
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet
from PIL import Image

from recipes.nano.colours import name_colours

STYLES: dict[str, tuple[str, ...]] = {
    "noto": ("noto style", "shaded style"),
    "twemoji": ("twemoji style", "simple style"),
    "openmoji": ("openmoji style", "outline style"),
    "fluent-3d": ("3d style", "rendered 3d style"),
    "fluent-flat": ("flat style", "fluent flat style"),
    "fluent-mono": ("mono style", "black icon style"),
}

COLOUR_SHARE = 0.15  # of a drawing that a colour takes before it is spoken of

# Names as in emojibase-data. A trailing " face" is dropped in captions: nobody asks for a "cat face".
_CONCEPTS = """
    cat face; dog face; frog; penguin; butterfly; mushroom; sunflower; strawberry; banana; rocket; house; star; red
    heart; ghost; skull; snowman; fox; cow face; rabbit face; monkey face; lion; tiger face; mouse face; hamster;
    koala; owl; duck; baby chick; parrot; fish; tropical fish; whale; dolphin; octopus; crab; turtle; snail;
    honeybee; lady beetle; elephant; horse; snake; cactus; palm tree; evergreen tree; deciduous tree; tulip; rose;
    four leaf clover; maple leaf; red apple; green apple; lemon; pear; peach; cherries; pineapple; grapes; tomato;
    avocado; carrot; hamburger; pizza; french fries; doughnut; cookie; cupcake; birthday cake; soft ice cream;
    lollipop; hot beverage; cheese wedge; automobile; taxi; fire engine; bicycle; airplane; sailboat; helicopter;
    castle; tent; volcano; sun; crescent moon; cloud; rainbow; umbrella; basketball; balloon; wrapped gift; trophy;
    Christmas tree; jack-o-lantern; teddy bear; guitar; drum; bell; crown; light bulb; camera; pencil; gem stone;
    t-shirt; top hat; backpack; bomb; blue heart; green heart; robot; alien;
    sunglasses; flute; vertical traffic light; closed book; round pushpin; hook; syringe; screwdriver; file cabinet;
    high voltage; floppy disk; joystick; stop sign; musical keyboard; kick scooter; wheel; chopsticks; stopwatch;
    cyclone; kitchen knife; chess pawn; cocktail glass; softball; snowflake; violin; magic wand; plunger; ring; church;
    straight ruler; lipstick; stethoscope; Tokyo tower; dango; wrench; amphora; pretzel; classical building;
    fax machine; pickup truck; briefcase; mantelpiece clock; collision; giraffe; butter; ribbon; boxing glove; wood;
    glass of milk; cherry blossom; musical score; package; admission tickets; hair pick; paintbrush; spoon;
    dollar banknote; bubbles; dress; envelope; video game; telephone; peanuts; wine glass; handbag; dna; spider; dodo;
    spiral notepad; chocolate bar; llama; postbox; ping pong; onion; sake; wastebasket; feather; graduation cap;
    bullseye; axe; fire extinguisher; anchor; computer mouse; shinto shrine; bubble tea; exploding head; ogre; goblin;
    globe with meridians; drop of blood; link; goal net; roller skate; melon; bacon; mosquito; adhesive bandage; pill;
    smiling face with sunglasses; mouse trap; office building; shopping cart
"""

# The first 110 are what people ask emoji for. The others were chosen by `concepts.py`: they exist in all six styles,
# and their drawings are alike from style to style. A preset drills the first `data.focus_concepts` of them.
CONCEPTS = tuple(" ".join(name.split()) for name in _CONCEPTS.split(";"))


@dataclass(frozen=True)
class Sprite:
    """One drawing of one concept, 64 x 64 RGBA."""

    concept: str
    style: str
    image: Image.Image

    @property
    def word(self) -> str:
        return word_of(self.concept)

    @cached_property
    def colours(self) -> tuple[str, ...]:
        """Colour words of its largest parts, the largest first, three at most."""
        pixels = np.asarray(self.image)
        seen = pixels[pixels[..., 3] > 127][:, :3]
        counts = Counter(name_colours(seen)) if len(seen) else Counter()
        return tuple(word for word, count in counts.most_common(3) if count >= COLOUR_SHARE * len(seen))

    @property
    def held_out(self) -> bool:
        return is_held_out(self.concept, self.style)


def word_of(concept: str) -> str:
    """What a caption calls a concept."""
    return concept.removesuffix(" face").lower()


def is_held_out(concept: str, style: str) -> bool:
    """The written rule: a tenth of all drawings, by hash of "concept|style", is never trained on."""
    return hashlib.sha256(f"{concept}|{style}".encode()).digest()[0] < 26


def load_sprites(parquet: str | Path) -> list[Sprite]:
    """All drawings of the emoji table (columns `image`, `name`, `style`), in file order."""
    table = pyarrow.parquet.read_table(parquet, columns=["image", "name", "style"]).to_pylist()
    return [Sprite(row["name"], row["style"], Image.open(io.BytesIO(row["image"])).convert("RGBA")) for row in table]


def select(sprites: list[Sprite], concepts: tuple[str, ...], held_out: bool) -> list[Sprite]:
    """The drawings of some concepts that are held out, or those that are not."""
    return [sprite for sprite in sprites if sprite.concept in concepts and sprite.held_out == held_out]
