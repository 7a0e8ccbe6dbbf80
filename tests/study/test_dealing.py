"""Who sees what: evenly, sides in turn, repeats turned and later, the same again by the same seed."""

from collections import Counter

import pytest

from vilex.errors import InputError
from vilex.study.dealing import METHOD, NOISE, OTHER, Deal, Easy, deal_trials, method_pairs

EASY = [Easy(source, 0, (source + 1) % 10) for source in range(10)]


def item(trial):
    return trial.source, *sorted((trial.left.number, trial.right.number))


def mains(slot):
    return [trial for trial in slot if trial.kind == "main"]


@pytest.mark.parametrize(("methods", "against"), [(2, None), (4, None), (4, 1)])
@pytest.mark.parametrize("raters", [1, 7, 20])
def test_comparisons_are_dealt_evenly_and_none_twice_to_one_rater(methods, against, raters):
    pairs = method_pairs(methods, against)
    slots = deal_trials(10, pairs, Deal(9, 2, 2, 1), EASY, raters, seed=3)
    seen = Counter(item(trial) for slot in slots for trial in mains(slot))
    counts = [seen[(source, *pair)] for source in range(10) for pair in pairs]
    assert max(counts) - min(counts) <= 1 and sum(counts) == 9 * raters
    for slot in slots:
        assert len({item(trial) for trial in mains(slot)}) == 9
        by_pair = Counter(item(trial)[1:] for trial in mains(slot))
        assert len(by_pair) >= min(len(pairs), 9) - 1  # what was dealt less comes first


def test_every_comparison_changes_sides_every_time():
    slots = deal_trials(10, [(0, 1)], Deal(10, 0, 0, 0), EASY, 8, seed=0)
    for source in range(10):
        left = [trial.left.number for slot in slots for trial in mains(slot) if trial.source == source]
        assert left in ([0, 1] * 4, [1, 0] * 4)
    orders = {tuple(trial.source for trial in mains(slot)) for slot in slots}
    assert len(orders) == 8


def test_repeats_show_a_comparison_of_the_first_half_again_turned_and_not_at_once():
    for slot in deal_trials(10, method_pairs(3), Deal(20, 5, 0, 2), EASY, 30, seed=1):
        repeats = [(place, trial) for place, trial in enumerate(slot) if trial.kind == "repeat"]
        assert len(repeats) == 5 and len({trial.of for _, trial in repeats}) == 5
        for place, trial in repeats:
            first = slot[trial.of]
            assert first.kind == "main" and place - trial.of > 4
            assert (trial.source, trial.left, trial.right) == (first.source, first.right, first.left)


def test_checks_are_a_method_against_noise_and_another_source_in_turn():
    for slot in deal_trials(10, [(0, 1)], Deal(6, 0, 4, 3), EASY, 10, seed=1):
        assert [trial.kind for trial in slot[:3]] == ["practice"] * 3
        checks = [trial for trial in slot if trial.kind == "check"]
        wrong = Counter(({trial.left.what, trial.right.what} - {METHOD}).pop() for trial in checks)
        assert wrong == {NOISE: 2, OTHER: 2}
        assert len({trial.source for trial in checks}) == 4
        for kind in (NOISE, OTHER):  # who always takes one side gets half of them right
            right = [trial.left.what == METHOD for trial in checks if kind in (trial.left.what, trial.right.what)]
            assert sorted(right) == [False, True]


def test_the_seed_alone_decides():
    deals = [deal_trials(10, method_pairs(3), Deal(9, 2, 2, 1), EASY, 5, seed) for seed in (4, 4, 5)]
    assert deals[0] == deals[1] != deals[2]


def test_a_rater_cannot_see_more_than_there_is():
    with pytest.raises(InputError, match=r"^--comparisons 31: 10 sources and 3 pairs of methods make 30; give at most"):
        deal_trials(10, method_pairs(3), Deal(31, 0, 0, 0), EASY, 1, 0)
    with pytest.raises(InputError, match=r"^--repeats 3: expected at most --comparisons, 2"):
        deal_trials(10, method_pairs(3), Deal(2, 3, 0, 0), EASY, 1, 0)
    (slot,) = deal_trials(2, [(0, 1)], Deal(2, 2, 0, 0), EASY, 1, 0)
    assert Counter(trial.kind for trial in slot) == {"main": 2, "repeat": 2}
