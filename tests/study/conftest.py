"""A small study: six sources, three methods of falling likeness, and raters whose taste is known."""

import numpy as np
import pytest
from PIL import Image

from vilex.study.answer_store import Answers
from vilex.study.dealing import METHOD, Deal
from vilex.study.design import StudyPlan, make_study
from vilex.study.folders import read_method, read_sources

METHODS = {"secret-good": 4, "secret-fair": 40, "secret-poor": 90}  # name: how strong its noise is


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """sources/ and a folder for each method, pictures of one name."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(6):
        grown = np.asarray(Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)).resize((24, 24), 0))
        for name, noise in {"sources": 0, **METHODS}.items():
            pixels = np.clip(grown + rng.normal(0, noise or 1e-9, grown.shape), 0, 255).astype(np.uint8)
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / name / f"picture-{number}.png")
    return root


@pytest.fixture
def make(folders, tmp_path):
    """Studies of these folders; arguments are a plan's."""

    def made(methods=tuple(METHODS), deal=None, name="study", wording=None, **more):
        sources = read_sources(folders / "sources")
        found = [read_method(str(folders / method), sources) for method in methods]
        plan = StudyPlan(deal or Deal(8, 2, 2, 1), **{"raters": 6, **more})
        return make_study(tmp_path / name, found, sources, plan, wording)

    return made


@pytest.fixture
def study(make):
    return make()


def answer_all(answers, rater, choose, seconds=2.0):
    """Give all answers of a rater; choose(trial, criterion) -> choice."""
    given = [
        (number, criterion, choose(trial, criterion), seconds)
        for number, trial in enumerate(answers.study.design.slots[rater.slot])
        for criterion in answers.study.design.plan.criteria
    ]
    assert answers.add_all(rater, given) == len(given)


def sensible(trial, criterion="semantic"):
    """Methods before anything else, and the earlier before the later."""
    order = [(shown.what != METHOD, shown.number) for shown in (trial.left, trial.right)]
    return "left" if order[0] < order[1] else "right"


@pytest.fixture
def answered(study):
    """Answers of four raters who all prefer earlier methods."""
    answers = Answers(study)
    for _ in range(4):
        answer_all(answers, answers.join(), sensible)
    return answers
