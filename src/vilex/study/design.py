"""A study's folder: everything about it is fixed when it is made.

design.json      methods, sources, who sees what, the rule by which raters are left out
text.toml        what raters read, to be translated
pictures/        PNGs without metadata, named by their content: nothing tells raters which method made one
answers.sqlite   comes with the first rater
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from PIL import Image

import vilex
from vilex.errors import InputError
from vilex.paths import replacing, write_keeping, write_text
from vilex.pictures.load import load_image
from vilex.settings import Range
from vilex.study.dealing import METHOD, NOISE, Deal, Easy, Pictured, Trial, deal_trials, method_pairs
from vilex.study.wording import CRITERIA, Wording, load_wording, to_toml

if TYPE_CHECKING:  # that file brings torch, which a server has no use for
    from vilex.study.folders import Method, Source

DESIGN, TEXT, PICTURES, ANSWERS = "design.json", "text.toml", "pictures", "answers.sqlite"
SPARE = 2  # times as many places as raters: some stop halfway
LARGEST = 1024  # pixels a side that raters are sent
SMALL = 16  # pixels a side at which pictures are compared to find easy checks


@dataclass(frozen=True)
class Rule:
    """Who is left out, as it is fixed before anybody answers.

    Attributes:
        checks: share of the checks that must be right, each by most of its answers.
        seconds: the median time of an answer must be as long.
        finished: share of all answers that must be there.
    """

    checks: Annotated[float, Range(0, 1)] = 0.75
    seconds: Annotated[float, Range(0, 3600)] = 0.7
    finished: Annotated[float, Range(0, 1)] = 0.5


@dataclass(frozen=True)
class StudyPlan:
    """What to make a study of. raters: how many are wanted. against: the one method all others meet; None for all."""

    deal: Deal
    raters: int = 20
    seed: int = 0
    criteria: tuple[str, ...] = CRITERIA
    ties: bool = False
    against: str | None = None
    difference: float = 0.6
    rule: Rule = field(default_factory=Rule)


@dataclass(frozen=True)
class Design:
    """A study that was made.

    Attributes:
        methods: names, known to no rater. sources: names.
        shown: the pictures' names: of sources [sources], of methods [methods][sources], of noise.
        slots: the trials of each place.
    """

    methods: tuple[str, ...]
    sources: tuple[str, ...]
    shown: dict[str, Any]
    slots: tuple[tuple[Trial, ...], ...]
    plan: StudyPlan
    made_by: str
    sha256: str = ""

    def picture(self, trial: Trial, side: Pictured | None = None) -> str:
        """The name of a trial's source, or of one of its two pictures."""
        if side is None:
            return str(self.shown["sources"][trial.source])
        if side.what == METHOD:
            return str(self.shown["methods"][side.number][trial.source])
        return str(self.shown["noise"] if side.what == NOISE else self.shown["sources"][side.number])

    @property
    def pictures(self) -> frozenset[str]:
        """The names of all pictures, which are all that a server gives out."""
        rows = [self.shown["sources"], *self.shown["methods"], [self.shown["noise"]]]
        return frozenset(name for row in rows for name in row)


@dataclass(frozen=True)
class Study:
    """A study's folder, read."""

    folder: Path
    design: Design
    wording: Wording

    @classmethod
    def open(cls, folder: Path) -> "Study":
        """Read a study that `make_study` made.

        Raises:
            InputError: there is none, or it is damaged.
        """
        path = folder / DESIGN
        if not path.is_file():
            raise InputError(f"{folder}: holds no study; make one with `vilex study make`")
        try:
            content = path.read_bytes()
            design = _design_of(json.loads(content), hashlib.sha256(content).hexdigest())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: damaged ({error}); make the study anew") from None
        text = folder / TEXT
        return cls(folder, design, load_wording(text))


def make_study(
    folder: Path,
    methods: "Sequence[Method]",
    sources: "Sequence[Source]",
    plan: StudyPlan,
    wording: Wording | None = None,
    overwrite: bool = False,
) -> Study:
    """Write a study's folder; of the sources those that every method has a picture of.

    Args:
        overwrite: whether a study in that folder is replaced; never one that anybody has answered.
    Raises:
        InputError: fewer than two methods or sources, two of one name, or more comparisons than there are.
    """
    if (folder / ANSWERS).exists():
        raise InputError(f"{folder}: holds a study that was served; give another folder with -o")
    if (folder / DESIGN).exists() and not overwrite:
        raise InputError(f"{folder}: holds a study already; give another folder with -o, or --overwrite")
    names = [method.name for method in methods]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two methods are named '{twice[0]}'; give each a name, as in NAME=FOLDER")
    if len(methods) < 2:
        raise InputError(f"expected at least two methods, got {len(methods)}; give a folder for each")
    if plan.against is not None and plan.against not in names:
        raise InputError(f"--against {plan.against}: no method has that name; they are {', '.join(names)}")
    common = [source for source in sources if all(source.name in method.pictures for method in methods)]
    if len(common) < 2:
        raise InputError(f"expected at least 2 sources of which every method has a picture, found {len(common)}")
    originals = [load_image(source.path) for source in common]
    made = [[load_image(method.pictures[source.name]) for source in common] for method in methods]
    against = None if plan.against is None else names.index(plan.against)
    slots = deal_trials(
        len(common), method_pairs(len(methods), against), plan.deal, easy_checks(originals, made),
        SPARE * plan.raters, plan.seed,
    )  # fmt: skip
    for before in (folder / PICTURES).glob("*.png"):
        before.unlink()
    shown = {
        "sources": [_save(folder, picture) for picture in originals],
        "methods": [[_save(folder, picture) for picture in row] for row in made],
        "noise": _save(folder, _noise(made[0][0].size, plan.seed)),
    }
    write_keeping(folder / TEXT, to_toml(wording or Wording()))
    content = {
        "made_by": f"vilex {vilex.__version__}",
        "plan": dataclasses.asdict(plan),
        "methods": names,
        "folders": [method.folder for method in methods],
        "sources": [source.name for source in common],
        "shown": shown,
        "slots": [[dataclasses.asdict(trial) for trial in slot] for slot in slots],
    }
    write_text(folder / DESIGN, json.dumps(content, ensure_ascii=False) + "\n")
    return Study.open(folder)


def easy_checks(sources: Sequence[Image.Image], made: Sequence[Sequence[Image.Image]]) -> list[Easy]:
    """Checks that nobody who looks gets wrong, the easier half: a method's picture near its source, another source
    far from it, both by the mean difference of small copies.
    """
    small = np.stack([_small(picture) for picture in sources])
    apart = np.abs(small[:, None] - small[None]).mean((2, 3, 4))
    far = apart.argmax(1)
    found = []
    for method, row in enumerate(made):
        for source, picture in enumerate(row):
            near = np.abs(_small(picture) - small[source]).mean()
            found.append((float(apart[source, far[source]] - near), Easy(source, method, int(far[source]))))
    found.sort(key=lambda one: -one[0])
    best: dict[int, Easy] = {}
    for _, easy in found:  # one of each source, so that a rater sees no check twice while there are others
        best.setdefault(easy.source, easy)
    return list(best.values())[: max(1, len(best) // 2)]


def _small(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB").resize((SMALL, SMALL), Image.Resampling.BOX), dtype=np.float32) / 255


def _noise(size: tuple[int, int], seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def _save(folder: Path, picture: Image.Image) -> str:
    """Write a picture without metadata under its content's hash; returns the name."""
    if max(picture.size) > LARGEST:
        picture = picture.copy()
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    Image.frombytes("RGB", picture.size, picture.convert("RGB").tobytes()).save(buffer, "PNG")
    name = hashlib.sha256(buffer.getvalue()).hexdigest()[:24] + ".png"
    with replacing(folder / PICTURES / name) as aside:
        aside.write_bytes(buffer.getvalue())
    return name


def _design_of(content: dict[str, Any], sha256: str) -> Design:
    plan = content["plan"]
    parts = {"deal": Deal(**plan["deal"]), "criteria": tuple(plan["criteria"]), "rule": Rule(**plan["rule"])}
    return Design(
        tuple(content["methods"]), tuple(content["sources"]), content["shown"],
        tuple(tuple(_trial_of(trial) for trial in slot) for slot in content["slots"]),
        StudyPlan(**{**plan, **parts}), content["made_by"], sha256,
    )  # fmt: skip


def _trial_of(trial: dict[str, Any]) -> Trial:
    return Trial(**{**trial, "left": Pictured(**trial["left"]), "right": Pictured(**trial["right"])})
