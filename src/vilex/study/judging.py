"""An automatic judge in a rater's chair: it answers what people are asked, and its agreement with them is a number."""

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from vilex.errors import InputError
from vilex.eval.features import features_of, load_extractor
from vilex.pictures.load import load_image
from vilex.study.answer_store import PERSON, Answers
from vilex.study.design import PICTURES

Choose = Callable[[str, str, str, str], str]  # criterion, and names of source, left and right: to a choice
READ = 64  # pictures in memory at once


def seat_judge(answers: Answers, name: str, choose: Choose) -> int:
    """Let a judge answer all that any rater is asked; returns the number of answers.

    Args:
        name: how reports call it. choose: given the criterion and the names of three pictures, "left", "right" or,
            where ties are allowed, "tie".
    Raises:
        InputError: a judge of that name has answered already.
    """
    if name == PERSON or any(rater.kind == name for rater in answers.raters()):
        raise InputError(f"{name}: has answered already; give the judge another name")
    design, count = answers.study.design, 0
    while (rater := answers.join(name)) is not None:
        said: list[tuple[int, str, str, float | None]] = []
        for number, trial in enumerate(design.slots[rater.slot]):
            names = design.picture(trial), design.picture(trial, trial.left), design.picture(trial, trial.right)
            for criterion in design.plan.criteria if trial.kind == "main" else ():
                said.append((number, criterion, choose(criterion, *names), None))
        count += answers.add_all(rater, said)
    return count


def nearer_by_features(answers: Answers, extractor: str, device: str = "cpu") -> Choose:
    """A judge for whom the nearer picture is the one whose features are, by their cosine; the same by every criterion.

    Raises:
        InputError: the network is not there, or a picture cannot be read.
    """
    folder, network = answers.study.folder / PICTURES, load_extractor(extractor, device)
    names = sorted(answers.study.design.pictures)
    parts = []
    for i in range(0, len(names), READ):
        parts.append(features_of(_read(folder, names[i : i + READ]), network).vectors.float())
    vectors = torch.nn.functional.normalize(torch.cat(parts), dim=1)
    place = {name: i for i, name in enumerate(names)}

    def choose(criterion: str, source: str, left: str, right: str) -> str:
        own = vectors[place[source]]
        return "left" if own @ vectors[place[left]] >= own @ vectors[place[right]] else "right"

    return choose


def _read(folder: Path, names: list[str]) -> list[Image.Image]:
    return [load_image(folder / name) for name in names]
