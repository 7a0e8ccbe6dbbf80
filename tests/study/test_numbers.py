"""Agreement, strengths, intervals and power against published examples, other libraries, and known truth."""

import numpy as np
import pytest

from vilex.study.agreement import nominal_alpha
from vilex.study.dealing import Deal, Easy, deal_trials
from vilex.study.power import _cells, logit_of_mean, power_of, simulate_choices
from vilex.study.resampling import Crossed, closed_variance, mean_share, quantile, share_interval
from vilex.study.strengths import fit_strengths


def alpha(*raters):
    given = [(unit, value) for one in raters for unit, value in enumerate(one.split()) if value != "."]
    values = sorted({value for _, value in given})
    return nominal_alpha(
        np.array([unit for unit, _ in given]), np.array([values.index(value) for _, value in given], dtype=np.int64)
    )


def test_alpha_is_that_of_krippendorffs_own_examples():
    """Examples A, B and C of "Computing Krippendorff's Alpha-Reliability" (2011): 0.095, 0.692, 0.743."""
    assert alpha("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0") == pytest.approx(0.095, abs=5e-4)
    assert alpha("a a b b d c c c e d d a", "b a b b b c c c e d d d") == pytest.approx(0.692, abs=5e-4)
    found = alpha(
        "1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."
    )
    assert found == pytest.approx(0.743, abs=5e-4)


def test_alpha_of_whole_tables_is_fleiss_kappa_corrected_for_their_size():
    from statsmodels.stats.inter_rater import fleiss_kappa

    counts = np.random.default_rng(0).multinomial(5, [0.5, 0.3, 0.2], size=12)
    unit = np.repeat(np.arange(12), 5)
    value = np.concatenate([np.repeat(np.arange(3), row) for row in counts])
    expected = 1 - (1 - fleiss_kappa(counts, method="fleiss")) * (1 - 1 / 60)
    assert nominal_alpha(unit, value) == pytest.approx(expected, abs=1e-12)


def test_alpha_says_when_nothing_is_known():
    assert np.isnan(alpha("a a a", "a a a")) and np.isnan(alpha("a b . .", ". . b a"))
    assert alpha("a b a b", "a b a b") == 1


def test_strengths_are_those_of_a_logistic_regression():
    import statsmodels.api as sm

    rng = np.random.default_rng(1)
    wins = np.triu(rng.integers(3, 40, (4, 4)), 1) + np.tril(rng.integers(3, 40, (4, 4)), -1)
    wins = wins / 2  # ties are half a win
    rows, won, games = [], [], []
    for i in range(4):
        for j in range(i + 1, 4):
            rows.append([(k == i) - (k == j) for k in range(1, 4)])
            won.append(wins[i, j] / (wins[i, j] + wins[j, i]))
            games.append(wins[i, j] + wins[j, i])
    model = sm.GLM(np.array(won), np.array(rows), family=sm.families.Binomial(), var_weights=np.array(games)).fit()
    expected = np.concatenate([[0], model.params])
    assert fit_strengths(wins, prior=0) == pytest.approx(expected - expected.mean(), abs=1e-6)


def test_strengths_are_finite_for_who_always_wins_and_unknown_for_who_never_met():
    always = fit_strengths(np.array([[0, 9, 9], [0, 0, 5], [0, 4, 0.0]]))
    assert np.isfinite(always).all() and always[0] > always[1] > always[2]
    apart = np.zeros((4, 4))
    apart[0, 1] = apart[2, 3] = 5
    assert np.isnan(fit_strengths(apart)).all()
    both = fit_strengths(np.stack([apart, np.ones((4, 4)) - np.eye(4)]))
    assert np.isnan(both[0]).all() and both[1] == pytest.approx(np.zeros(4))


def test_students_t():
    from scipy.stats import t

    for groups in (2, 3, 5, 8, 11, 12, 13, 30, 1000):
        assert quantile(groups) == pytest.approx(t.ppf(0.975, groups - 1), rel=1e-3)


@pytest.fixture(scope="module")
def design():
    slots = deal_trials(25, [(0, 1)], Deal(15, 0, 0, 0), [Easy(0, 0, 1)], 20, 0)
    _, picture, rater = _cells(slots)
    return picture, rater


def test_the_bootstrap_is_the_closed_form(design):
    score = simulate_choices(0.7, *design, np.random.default_rng(5))
    crossed = Crossed.by(*design)
    drawn = mean_share(score, crossed, seed=0, draws=20_000)
    closed = share_interval(float(score.mean()), closed_variance(score, crossed), crossed.fewest, len(score))
    assert (drawn.value, drawn.answers) == (closed.value, closed.answers)
    assert (drawn.low, drawn.high) == pytest.approx((closed.low, closed.high), abs=0.004)


@pytest.mark.parametrize("spread", [(1.0, 0.5), (0.0, 0.0), (0.3, 1.0)])
@pytest.mark.parametrize("truth", [0.5, 0.65, 0.9])
def test_win_rates_are_unbiased_and_their_intervals_hold_the_truth_as_often_as_they_say(design, spread, truth):
    rng, crossed = np.random.default_rng(int(100 * truth)), Crossed.by(*design)
    values, held = [], 0
    for _ in range(400):
        score = simulate_choices(truth, *design, rng, spread)
        found = share_interval(float(score.mean()), closed_variance(score, crossed), crossed.fewest, len(score))
        values.append(found.value)
        held += found.low <= truth <= found.high
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / 20)
    assert 0.92 <= held / 400 <= 0.99  # 0.95, with room for 400 tries and for Wilson's caution


def test_drawing_both_at_once_would_be_too_wide(design):
    """Why there are three terms: the naive bootstrap counts the noise of single answers three times."""
    rng = np.random.default_rng(0)
    picture, rater = design
    score = (rng.random(len(picture)) < 0.5).astype(float)
    means = []
    for _ in range(2000):
        weight = rng.multinomial(25, np.full(25, 1 / 25))[picture] * rng.multinomial(20, np.full(20, 1 / 20))[rater]
        means.append((weight * score).sum() / weight.sum())
    assert np.var(means) > 2 * closed_variance(score, Crossed.by(*design))


def test_one_rater_or_one_picture_tells_nothing():
    crossed = Crossed.by(np.array([0, 1, 2]), np.array([0, 0, 0]))
    found = mean_share(np.array([1.0, 1, 0]), crossed, 0)
    assert (found.low, found.high) == (0, 1) and found.value == pytest.approx(2 / 3)
    all_alike = mean_share(np.ones(len(crossed.picture.of)), Crossed.by(np.array([0, 1, 2]), np.array([0, 1, 2])), 0)
    assert all_alike.value == all_alike.high == 1 and all_alike.low < 0.5


def test_power_grows_and_is_the_rate_of_false_alarms_without_a_difference():
    slots = deal_trials(40, [(0, 1)], Deal(30, 0, 0, 0), [Easy(0, 0, 1)], 30, 0)
    powers = [power_of(slots, raters, 0.65, 0).settled for raters in (3, 8, 30)]
    assert powers[0] < powers[1] < powers[2] and powers[2] > 0.8
    assert power_of(slots, 30, 0.5, 0).settled < 0.09


def test_the_mean_choice_is_the_win_rate():
    draws = np.random.default_rng(0).normal(0, 1.2, 1_000_000)
    for truth in (0.5, 0.6, 0.95):
        assert (1 / (1 + np.exp(-(logit_of_mean(truth, 1.2) + draws)))).mean() == pytest.approx(truth, abs=1e-3)
