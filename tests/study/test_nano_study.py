"""The study of the shipped model, made from a report's pictures and answered by simulated raters. No people."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from recipes.nano.study import METHODS, PLAN, make_nano_study, nano_judge, smaller
from recipes.nano.tables.judge import Judge
from tests.study.conftest import answer_all, sensible
from vilex.errors import InputError
from vilex.study.answer_store import Answers
from vilex.study.dealing import Deal
from vilex.study.design import StudyPlan
from vilex.study.judging import seat_judge
from vilex.study.reporting import write_report

TRUTH = {"ViLex 1": 0.2, "ViLex 4": 0.4, "ViLex 16": 0.6, "ViLex 75": 0.8, "name": 0.3}  # against De-Diffusion


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """What the report stage leaves, with pictures of noise."""
    out, rng = tmp_path_factory.mktemp("nano"), np.random.default_rng(0)
    store, keys = out / "report" / "held-out", [f"{number:016x}" for number in range(20)]
    order = {"source": keys}
    for place in ("name", "1 token", "4 tokens", "16 tokens", "75 tokens", "brief de-diffusion 0123abcd",
                  "brief de-diffusion-all 0123abcd"):  # fmt: skip
        order[place] = [f"{key}-ffff" for key in keys] if place == "name" else keys
    for place, own in order.items():
        folder = store / "pictures" / place.replace(" ", "-") / "0"
        folder.mkdir(parents=True)
        for key in own:
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{key}.png")
    (store / "order.json").write_text(json.dumps(order))
    return out


def test_simulated_raters_give_back_the_truth_they_were_made_with(out, tmp_path):
    plan = StudyPlan(Deal(30, 4, 4, 2), raters=24, against="De-Diffusion")
    study = make_nano_study(out, tmp_path / "study", plan)
    names = study.design.methods
    assert names == tuple(METHODS) and len(study.design.sources) == 20
    answers, rng = Answers(study), np.random.default_rng(1)

    def choose(trial, criterion):
        if trial.kind in ("check", "practice"):
            return sensible(trial)
        left, right = (names[shown.number] for shown in (trial.left, trial.right))
        chance = TRUTH[left] if right == "De-Diffusion" else 1 - TRUTH[right]
        return "left" if rng.random() < chance else "right"

    for _ in range(24):
        answer_all(answers, answers.join(), choose)
    assert answers.join() is None  # as many as were wanted
    results = write_report(answers, tmp_path / "report")
    assert results["raters"]["kept"] == 24
    held = 0
    for one in results["criteria"].values():
        for row in one["win_rates"]:
            pair = names[row["first"]], names[row["second"]]
            truth = TRUTH[pair[0]] if pair[1] == "De-Diffusion" else 1 - TRUTH[pair[1]]
            assert row["value"] == pytest.approx(truth, abs=0.15) and row["answers"] == 24 * 6
            held += row["low"] <= truth <= row["high"]
        by_strength = sorted(names, key=lambda name: -one["strengths"][names.index(name)]["value"])
        assert by_strength[:3] == ["ViLex 75", "ViLex 16", "De-Diffusion"] and by_strength[-1] == "ViLex 1"
    assert held >= 12  # of 15


def test_a_smaller_study_is_made_by_two_numbers(out, tmp_path):
    study = make_nano_study(out, tmp_path / "study", smaller(raters=3, comparisons=2))
    assert study.design.plan.raters == 3 and study.design.plan.deal == Deal(2, 2, 4, 2)
    assert smaller(PLAN.raters, PLAN.deal.comparisons) == PLAN


def test_the_reports_judge_sits_in(out, tmp_path):
    study = make_nano_study(out, tmp_path / "study", StudyPlan(Deal(10, 0, 2, 0), raters=3, against="De-Diffusion"))
    torch.manual_seed(0)
    choose = nano_judge(study, Judge(("fox", "star"), width=4).eval())
    source, other = study.design.shown["sources"][:2]
    for criterion in ("semantic", "style", "layout"):
        said = {choose(criterion, source, source, other), choose(criterion, source, other, source)}
        assert said == {"left", "right"}  # it is the pictures that decide, not the sides
    assert choose("layout", source, source, other) == "left"
    answers = Answers(study)
    assert seat_judge(answers, "nano judge", choose) == 6 * 10 * 3


def test_a_report_without_the_row_is_one_line(out, tmp_path):
    with pytest.raises(InputError, match=r"no report's pictures; `python -m recipes.nano report` draws them"):
        make_nano_study(tmp_path, tmp_path / "study")
    (out / "report" / "held-out" / "pictures" / "1-token").rename(out / "moved")
    with pytest.raises(InputError, match=r"1-token: no such row in the report"):
        make_nano_study(out, tmp_path / "study")
    (out / "moved").rename(out / "report" / "held-out" / "pictures" / "1-token")
