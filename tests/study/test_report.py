"""What a report says against raters whose taste is known: win rates, exclusions, agreement, judges, files."""

import csv
import io
import json

import numpy as np
import pytest

from tests.study.conftest import METHODS, answer_all, sensible
from vilex.errors import InputError
from vilex.study.answer_store import Answers
from vilex.study.dealing import METHOD, Deal
from vilex.study.judging import nearer_by_features, seat_judge
from vilex.study.power import simulate_choices
from vilex.study.reporting import COLUMNS, answers_csv, to_tables, write_report
from vilex.study.resampling import Crossed
from vilex.study.results import alpha, strengths, study_results, win_rates
from vilex.study.strengths import fit_strengths
from vilex.study.tally import Repeats, Votes, count_people

CRITERIA = ("semantic", "style", "layout")


def noisy(chance, seed):
    """Choices that follow `sensible` so often, by rater's own luck; checks are always right."""
    rng = np.random.default_rng(seed)

    def choose(trial, criterion):
        right = sensible(trial)
        luck = trial.kind != "main" or rng.random() < chance
        return right if luck else {"left": "right", "right": "left"}[right]

    return choose


def test_raters_of_one_mind_give_full_rates_and_agreement(answered):
    results = study_results(answered, draws=200)
    assert results["raters"] == {
        "wanted": 6, "came": 4, "kept": 4, "left_out": [], "checks_right": 8, "checks": 8,
    }  # fmt: skip
    assert results["answers"] == 4 * 8 * 3
    for one in results["criteria"].values():
        assert [row["value"] for row in one["win_rates"]] == [1, 1, 1]
        assert all(row["low"] < 1 and row["high"] == 1 for row in one["win_rates"])
        assert one["strengths"][0]["value"] > one["strengths"][1]["value"] > one["strengths"][2]["value"]
        assert one["self_agreement"]["value"] == 1 and one["seconds"]["median"] == 2
        assert one["alpha"]["value"] == pytest.approx(1)  # whose number is lower, not which side it stood on


@pytest.mark.parametrize("against", [None, "secret-good", "secret-fair"])
def test_win_rates_are_the_shares_counted_by_hand_from_the_csv(make, against):
    study = make(raters=6, deal=Deal(12, 2, 2, 1), ties=True, against=against)
    answers = Answers(study)
    for number in range(6):
        choose = noisy(0.7, number)
        answer_all(answers, answers.join(), lambda t, c, f=choose, n=number: "tie" if (t.source + n) % 5 == 0 and
                   t.kind == "main" else f(t, c))  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(answers_csv(answers, set()))))
    assert tuple(rows[0]) == COLUMNS and len(rows) == 6 * 17 * 3
    results = study_results(answers, draws=100)
    names = list(METHODS)
    for criterion in CRITERIA:
        for pair in results["criteria"][criterion]["win_rates"]:
            first, second = names[pair["first"]], names[pair["second"]]
            assert second == against or against is None
            own = [row for row in rows if row["trial_kind"] == "main" and row["criterion"] == criterion
                   and {row["left"], row["right"]} == {first, second}]  # fmt: skip
            score = [{first: 1, second: 0, "tie": 0.5}[row["chosen"]] for row in own]
            assert pair["value"] == pytest.approx(np.mean(score)) and pair["answers"] == len(score)
            assert pair["ties"] == pytest.approx(np.mean([row["chosen"] == "tie" for row in own])) and pair["ties"] > 0


def synthetic(rng, methods, truths, sources=20, raters=15, each=20):
    """Votes of simulated raters; truths: the win rate of each pair (i, j), i < j."""
    pairs = list(truths)
    picture, rater, pair = (rng.integers(0, n, raters * each) for n in (sources, raters, len(pairs)))
    score = np.empty(len(picture))
    for number, one in enumerate(pairs):
        chosen = pair == number
        score[chosen] = simulate_choices(truths[one], picture[chosen], rater[chosen], rng)
    first, second = (np.array([pairs[k][side] for k in pair]) for side in (0, 1))
    return Votes(picture, first, second, np.zeros_like(picture), rater, score, np.full(len(picture), np.nan))


def test_strengths_are_unbiased_and_their_intervals_hold_the_truth(make):
    """Raters by a Bradley-Terry model itself: no taste of their own, so that its strengths are the truth."""
    truth, rng, held, values = np.array([0.6, 0.0, -0.6]), np.random.default_rng(0), 0, []
    for _ in range(60):
        picture, rater = rng.integers(0, 20, 400), rng.integers(0, 15, 400)
        pair = rng.integers(0, 3, 400)
        first, second = np.array([0, 0, 1])[pair], np.array([1, 2, 2])[pair]
        score = (rng.random(400) < 1 / (1 + np.exp(truth[second] - truth[first]))).astype(float)
        votes = Votes(picture, first, second, 0 * pair, rater, score, score * np.nan)
        found = strengths(3, votes, draws=150)
        values.append([one.value for one in found])
        held += sum(one.low <= true <= one.high for one, true in zip(found, truth, strict=True))
    assert np.mean(values, axis=0) == pytest.approx(truth, abs=0.06)
    assert 0.90 <= held / 180 <= 0.995


def test_alpha_has_an_interval_around_it():
    votes = synthetic(np.random.default_rng(3), 2, {(0, 1): 0.75})
    found = alpha(2, votes, draws=300)
    assert found.low < found.value < found.high and -0.2 < found.value < 0.6


def test_who_fails_the_rule_is_left_out_and_counted_as_such(make):
    study = make(raters=6)
    answers = Answers(study)
    answer_all(answers, answers.join(), sensible)
    answer_all(answers, answers.join(), lambda trial, criterion: "left")  # half of the checks
    answer_all(answers, answers.join(), sensible, seconds=0.2)
    short = answers.join()
    for criterion in CRITERIA:
        answers.add(short, 0, criterion, "left", 2.0)
    tally = count_people(answers)
    reasons = {one.rater.number: one.left_out for one in tally.conduct}
    assert reasons[1] == "" and "checks right, under 75%" in reasons[2]
    assert reasons[3] == "median of 0.20 seconds an answer, under 0.7" and reasons[4] == "answered 8%, under 50%"
    assert set(tally.votes.rater) == {1}
    assert "- rater 3: median of 0.20" in to_tables(study_results(answers, draws=10))


def test_self_agreement_is_the_share_of_repeats_answered_alike(make):
    answers = Answers(make(methods=list(METHODS)[:2], deal=Deal(6, 4, 0, 0)))
    rater = answers.join()
    answer_all(answers, rater, lambda trial, criterion: "left" if criterion == "style" else sensible(trial))
    repeats = count_people(answers).repeats
    assert isinstance(repeats, Repeats) and len(repeats.same) == 12
    assert [repeats.same[repeats.criterion == number].mean() for number in range(3)] == [1, 0, 1]


def test_a_design_that_was_changed_is_refused(answered):
    path = answered.study.folder / "design.json"
    path.write_text(path.read_text().replace('"checks": 0.75', '"checks": 0.10'))
    with pytest.raises(InputError, match=r"design\.json was changed after the first rater came"):
        Answers(type(answered.study).open(answered.study.folder))


def test_a_report_is_files_that_agree(answered, tmp_path):
    results = write_report(answered, tmp_path / "report")
    assert json.loads((tmp_path / "report" / "results.json").read_text()) == results
    table = (tmp_path / "report" / "report.md").read_text()
    assert "| secret-good against secret-fair | 1 (" in table and "Bradley-Terry" in table
    assert "unknown" not in table and "nothing is known" not in table
    assert "<svg" in (tmp_path / "report" / "win-rates.svg").read_text()
    sheet = (tmp_path / "report" / "sheet.md").read_text()
    assert sheet.count("**to be filled in**") == 6 and "4 raters came, 0 were left out, 4 count" in sheet
    assert answered.study.design.sha256 in sheet


def test_no_answers_are_a_report_without_numbers(study, tmp_path):
    results = write_report(Answers(study), tmp_path / "report")
    assert results["raters"]["came"] == 0 and results["answers"] == 0
    assert results["criteria"]["style"]["win_rates"][0]["value"] is None
    report = (tmp_path / "report" / "report.md").read_text()
    assert "| secret-good against secret-fair | unknown | unknown | unknown |" in report
    assert "No comparison was answered by two raters, so that nothing is known of how far they agree." in report


def test_a_judge_sits_beside_people_and_not_among_them(answered):
    before = study_results(answered, draws=50)["criteria"]
    count = seat_judge(answered, "exact", lambda criterion, source, left, right: "left")
    design = answered.study.design
    assert count == len(design.slots) * 8 * 3
    seat_judge(answered, "contrary", contrary(answered))
    results = study_results(answered, draws=50)
    assert results["criteria"] == before and results["raters"]["came"] == 4
    assert results["judges"]["contrary"]["style"]["agreement"]["value"] == 0
    assert 0.2 < results["judges"]["exact"]["style"]["agreement"]["value"] < 0.8
    assert results["judges"]["contrary"]["style"]["people_among_themselves"] == 1
    with pytest.raises(InputError, match=r"^exact: has answered already"):
        seat_judge(answered, "exact", lambda *names: "left")
    assert answered.join() is not None  # people's places are their own
    with pytest.raises(InputError, match=r"^rater 5: there is none; their numbers are 1, 2, 3, 4, "):
        answered.rater(5)  # a judge's seat is nobody's to export or delete


def contrary(answers):
    """Says the opposite of `sensible`, from pictures' names alone."""
    shown = answers.study.design.shown["methods"]
    number = {name: method for method, row in enumerate(shown) for name in row}
    return lambda criterion, source, left, right: "left" if number[left] > number[right] else "right"


def test_a_judge_by_features_prefers_what_is_nearer(answered):
    choose = nearer_by_features(answered, "lite0")
    design = answered.study.design
    better = 0
    for source in range(6):
        good, poor = design.shown["methods"][0][source], design.shown["methods"][2][source]
        better += choose("style", design.shown["sources"][source], good, poor) == "left"
        assert choose("style", design.shown["sources"][source], poor, design.shown["sources"][source]) == "right"
    assert better >= 5


def test_the_order_of_pairs_is_that_of_the_methods(make):
    design = make(against="secret-fair").design
    votes = synthetic(np.random.default_rng(0), 3, {(0, 1): 0.8, (1, 2): 0.7})
    assert [(row["first"], row["second"]) for row in win_rates(design, votes, 10)] == [(0, 1), (2, 1)]
    assert all(METHOD in (trial.left.what, trial.right.what) for slot in design.slots for trial in slot)
    assert {frozenset((t.left.number, t.right.number)) for slot in design.slots for t in slot if t.kind == "main"} == {
        frozenset((0, 1)), frozenset((1, 2)),
    }  # fmt: skip
    assert np.isfinite(fit_strengths(np.array([[0, 5, 0], [3, 0, 4], [0, 2, 0.0]]))).all()
    assert Crossed.by(votes.source, votes.rater).fewest == 15
