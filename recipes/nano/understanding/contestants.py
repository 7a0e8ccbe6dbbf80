"""Who is compared in which table: an encoder, as `towers.py` knows it, and which of its features are seen."""

import itertools
from dataclasses import dataclass

from recipes.nano.understanding.towers import DEPTHS


@dataclass(frozen=True)
class Contestant:
    """A row.

    Attributes:
        name: its folder. title: its column.
        encoder: `before`, `after`, or what stage `towers` makes.
        kind, tokens_per_view, grid: see `vilex.understand.features`.
    """

    name: str
    title: str
    encoder: str = "after"
    kind: str = "patches"
    tokens_per_view: int = 16
    grid: int = 2

    @property
    def draws(self) -> bool:
        """Whether its encoder has a pooler, whose tokens can be drawn from."""
        return self.encoder not in ("before", "control", "labelled")


def _tokens(count: int) -> Contestant:
    return Contestant(f"tokens-{count}", f"{count} tokens", kind="tokens", tokens_per_view=count, grid=1)


def _beside(kind: str, count: int, encoder: str = "after") -> Contestant:
    said = "tokens" if kind == "tokens" else "pooled patches"
    name = f"{'' if encoder == 'after' else f'{encoder}-'}patches-{kind}-{count}"
    return Contestant(name, f"+ 5 x {count} {said}", encoder, f"patches+{kind}", count)


COUNTS = (1, 4, 16, 64)
BESIDE = (16, 4)  # of each view; four make 31% more than the patches, as the paper's eighty do
CONTESTANTS = {
    one.name: one
    for one in (
        Contestant("before", "before ViLex", "before"),
        Contestant("control", "before, trained on as long", "control"),
        Contestant("after", "after ViLex"),
        Contestant("vae", "VAE latents", kind="vae"),
        *(_beside(kind, count) for count in BESIDE for kind in ("tokens", "pooled")),
        *(_tokens(count) for count in COUNTS),
        Contestant("quarter", "a quarter of the run", "quarter"),
        Contestant("half", "half of the run", "half"),
        *(Contestant(f"blocks-{n}", f"{n} blocks, short run", f"blocks-{n}") for n in DEPTHS),
        Contestant("zoomed", "patches, quarters learnt", "zoomed"),
        *(_beside(kind, 16, "zoomed") for kind in ("tokens", "pooled")),
        Contestant("labelled", "by names, before", "labelled"),
        Contestant("labelled-vilex", "by names, after a short run", "labelled-vilex"),
    )
}


@dataclass(frozen=True)
class Pair:
    """A difference that a table is about: `one` less `other`; the paper wants at least so many points."""

    one: str
    other: str
    wanted: float | None = None


@dataclass(frozen=True)
class TableOf:
    """A table of the paper, or one of ours that it lacks."""

    title: str
    said: str
    columns: tuple[str, ...]
    pairs: tuple[Pair, ...] = ()


TABLES = {
    "3": TableOf(
        "Table 3: the tower before ViLex and after",
        "What the paper does not have stands between them: the same tower, trained on by its own loss (a teacher's "
        "features) for as many of the same pictures as ViLex showed it.",
        ("before", "control", "after"),
        (Pair("after", "before", 5.0), Pair("after", "control", 0.0), Pair("control", "before")),
    ),
    "4": TableOf(
        "Table 4: what is seen",
        "The same encoder throughout. The paper's extra tokens are also the only ones that see the quarters of a "
        "picture; pooled patches of the same five views see them, too, without the pooler.",
        ("vae", "after", *(f"patches-{kind}-{n}" for n in BESIDE for kind in ("tokens", "pooled"))),
        (
            Pair("after", "vae", 8.0),
            *(Pair(f"patches-tokens-{n}", "after") for n in BESIDE),
            *(Pair(f"patches-tokens-{n}", f"patches-pooled-{n}") for n in BESIDE),
        ),
    ),
    "4Z": TableOf(
        "Table 4 again: an encoder that has seen quarters of pictures",
        "The final encoder after a short ViLex run more on scenes like these, whole and by quarters: its pooler knows "
        "what a second look shows.",
        ("after", "zoomed", "zoomed-patches-tokens-16", "zoomed-patches-pooled-16"),
        (
            Pair("zoomed", "after"),
            Pair("zoomed-patches-tokens-16", "zoomed"),
            Pair("zoomed-patches-tokens-16", "zoomed-patches-pooled-16"),
        ),
    ),
    "5": TableOf(
        "Table 5: by number of image tokens",
        "ViLex tokens of the whole picture alone, and the 64 patches that they are made of.",
        (*(f"tokens-{n}" for n in COUNTS), "after"),
        tuple(Pair(f"tokens-{n}", f"tokens-{m}") for m, n in itertools.pairwise(COUNTS)),
    ),
    "A1": TableOf(
        "Table A1: by length of the ViLex run",
        "Checkpoints of one run, whose rate has not fallen yet at a quarter and at half.",
        ("before", "quarter", "half", "after"),
        (Pair("quarter", "before"), Pair("half", "quarter"), Pair("after", "half")),
    ),
    "A2": TableOf(
        "Table A2: by depth of the pooler, right column",
        "Short runs from the tower, without the head start, which is of one depth. The tower alone is seen.",
        tuple(f"blocks-{n}" for n in DEPTHS),
        tuple(Pair(f"blocks-{n}", f"blocks-{m}") for m, n in itertools.pairwise(DEPTHS)),
    ),
    "A3": TableOf(
        "Table A3: a tower that was trained another way",
        "It learnt the names of concepts and styles, and saw no teacher. Both towers had the same short ViLex run.",
        ("before", "blocks-5", "labelled", "labelled-vilex"),
        (Pair("blocks-5", "before"), Pair("labelled-vilex", "labelled")),
    ),
}
