"""What is asked of eyes, and the sets it is asked about: what is wrong with them is said before a model is loaded."""

from dataclasses import dataclass, field
from pathlib import Path

from vilex.errors import InputError
from vilex.eval.eyesight.labelled import LabelledSet, read_labelled, with_classes
from vilex.eval.eyesight.masked import MaskedSet, read_masked
from vilex.eval.eyesight.mmvp import Pair, read_mmvp
from vilex.eval.eyesight.text_side import TEMPLATES, check_templates


@dataclass(frozen=True)
class EyesSettings:
    """What to measure.

    Attributes:
        eyes: ViLex encoders or vision models, the first compared with each other one.
        classes, label: a set with classes, see `read_labelled`; test: another one to test on, else a fifth of it.
        dense: a set with masks, see `read_masked`; dense_test as `test`.
        mmvp: the folder of MMVP-VLM.
        zero_shot: classify `classes`' test pictures by their names, put into `templates`.
        text: whose text side goes with eyes that have none.
        tokens: probe so many of an encoder's tokens, too; none if 0.
        images: of each set only so many.
    """

    eyes: tuple[str, ...]
    out: Path
    classes: str = ""
    test: str = ""
    label: str = "label"
    dense: Path | None = None
    dense_test: Path | None = None
    mmvp: Path | None = None
    zero_shot: bool = False
    templates: tuple[str, ...] = TEMPLATES
    text: str = ""
    tokens: int = 0
    seeds: tuple[int, ...] = (0, 1, 2)
    images: int | None = None
    batch_size: int = 32
    device: str = "cpu"


@dataclass
class Sets:
    """What is looked at; None where nothing is asked for. A test of None: a part of the set itself."""

    classes: LabelledSet | None = None
    test: LabelledSet | None = None
    dense: MaskedSet | None = None
    dense_test: MaskedSet | None = None
    pairs: list[Pair] = field(default_factory=list)


def read_sets(settings: EyesSettings) -> Sets:
    """All that is looked at, and what is wrong with it: before any model is loaded."""
    asked = bool(settings.classes), settings.dense is not None, settings.mmvp is not None
    if not any(asked):
        raise InputError("nothing to look at: give --classes, --dense or --mmvp")
    if (settings.zero_shot or settings.test) and not settings.classes:
        raise InputError(f"--{'zero-shot' if settings.zero_shot else 'test'}: needs --classes, whose names it goes by")
    if settings.dense_test and not settings.dense:
        raise InputError("--dense-test: needs --dense, on which the probe is trained")
    check_templates(settings.templates)
    sets = Sets()
    if settings.classes:
        sets.classes = read_labelled(settings.classes, settings.label, settings.images)
        if settings.test:
            sets.test = read_labelled(settings.test, settings.label, settings.images)
            with_classes(sets.test, sets.classes.classes)
    if settings.dense:
        sets.dense = read_masked(settings.dense, settings.images)
        sets.dense_test = read_masked(settings.dense_test, settings.images) if settings.dense_test else None
        if sets.dense_test and sets.dense_test.classes != sets.dense.classes:
            raise InputError(
                f"{settings.dense_test}: has other classes than {settings.dense}; give both one classes.txt"
            )
    if settings.mmvp:
        sets.pairs = read_mmvp(settings.mmvp)
    return sets
