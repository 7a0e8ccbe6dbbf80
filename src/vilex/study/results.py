"""A study's numbers: win rates, strengths, agreement, times, and what automatic judges say beside people."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from vilex.study.agreement import alpha_of, unit_counts
from vilex.study.answer_store import Answers
from vilex.study.dealing import method_pairs
from vilex.study.design import Design
from vilex.study.resampling import (
    DRAWS,
    Array,
    Crossed,
    Estimate,
    Groups,
    mean_share,
    plain_interval,
    two_way_variance,
)
from vilex.study.strengths import fit_strengths
from vilex.study.tally import Tally, Votes, count_judges, count_people

SEED = 0  # of the bootstrap: the same answers give the same report


def study_results(answers: Answers, draws: int = DRAWS) -> dict[str, Any]:
    """Everything a report says, as plain values; numbers that nothing is known of are None."""
    design, tally = answers.study.design, count_people(answers)
    judges = count_judges(answers)
    return plain(
        {
            "methods": list(design.methods),
            "design_sha256": design.sha256,
            "raters": _raters(design, tally),
            "answers": len(tally.votes),
            "criteria": {
                name: _criterion(design, tally, number, draws) for number, name in enumerate(design.plan.criteria)
            },
            "judges": {
                name: {
                    criterion: _beside_people(design, _of(tally.votes, number), _of(votes, number), draws)
                    for number, criterion in enumerate(design.plan.criteria)
                }
                for name, votes in judges.items()
            },
        }
    )


def win_rates(design: Design, votes: Votes, draws: int = DRAWS) -> list[dict[str, Any]]:
    """How often the first method of each pair was chosen, ties as half a time; of one criterion's votes.

    The one method that all others are compared with is always the second.
    """
    against = None if design.plan.against is None else design.methods.index(design.plan.against)
    rows = []
    for pair in method_pairs(len(design.methods), against):
        own = votes.where((votes.first == pair[0]) & (votes.second == pair[1]))
        turned = pair[0] == against
        score = 1 - own.score if turned else own.score
        share = mean_share(score, Crossed.by(own.source, own.rater), SEED, draws)
        ties = float((own.score == 0.5).mean()) if len(own) else math.nan
        first, second = pair[::-1] if turned else pair
        rows.append({"first": first, "second": second, **asdict(share), "ties": ties})
    return rows


def strengths(methods: int, votes: Votes, draws: int = DRAWS) -> list[Estimate]:
    """Bradley-Terry strengths, logarithms with mean 0; of one criterion's votes."""
    crossed = Crossed.by(votes.source, votes.rater)

    def fitted(groups: Groups, weights: Array) -> Array:
        return fit_strengths((weights @ _wins(methods, votes, groups)).reshape(-1, methods, methods))

    alone = Groups(np.zeros(len(votes), dtype=np.int64), 1)
    values = fitted(alone, np.ones((1, 1)))[0]
    variances = two_way_variance(fitted, crossed, SEED, draws)
    return [
        plain_interval(float(value), float(variance), crossed.fewest, len(votes))
        for value, variance in zip(values, variances, strict=True)
    ]


def alpha(methods: int, votes: Votes, draws: int = DRAWS) -> Estimate:
    """Krippendorff's alpha and its interval by a bootstrap over pictures; of one criterion's votes.

    Values are which of the two methods was chosen, by turns from picture to picture called the first or the second:
    chance is one half then, and a method that wins everywhere does not make agreement look like chance.
    """
    if not len(votes):
        return Estimate(math.nan, math.nan, math.nan, 0)
    units = Groups.by(votes.unit(methods))
    turned = (votes.source + votes.first + votes.second) % 2 == 1
    counts = unit_counts(units, np.where(turned, 2 - votes.value, votes.value))
    pictures = Groups.by(votes.source)
    picture_of = np.zeros(units.count, dtype=np.int64)
    picture_of[units.of] = pictures.of
    drawn = alpha_of(counts, pictures.draw(draws, np.random.default_rng(SEED))[:, picture_of])
    value = float(alpha_of(counts, np.ones((1, units.count)))[0])
    low, high = np.nanquantile(drawn, (0.025, 0.975)) if np.isfinite(drawn).any() else (math.nan, math.nan)
    return Estimate(value, float(low), float(high), len(votes))


def pairwise_agreement(methods: int, votes: Votes) -> float:
    """How often two raters say the same of one comparison."""
    if not len(votes):
        return math.nan
    counts = unit_counts(Groups.by(votes.unit(methods)), votes.value)
    given = counts.sum(1)
    pairs = (given * (given - 1)).sum()
    return float((counts * (counts - 1)).sum() / pairs) if pairs else math.nan


def plain(value: Any) -> Any:
    """Values that JSON has: NaN and infinity become None."""
    if isinstance(value, Estimate):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _of(votes: Votes, criterion: int) -> Votes:
    return votes.where(votes.criterion == criterion)


def _raters(design: Design, tally: Tally) -> dict[str, Any]:
    right, counted = np.sum([one.checks for one in tally.conduct], axis=0) if tally.conduct else (0, 0)
    return {
        "wanted": design.plan.raters,
        "came": len(tally.conduct),
        "kept": len(tally.kept),
        "left_out": [{"rater": one.rater.number, "why": one.left_out} for one in tally.conduct if one.left_out],
        "checks_right": int(right),
        "checks": int(counted),
    }


def _criterion(design: Design, tally: Tally, number: int, draws: int) -> dict[str, Any]:
    votes, methods = _of(tally.votes, number), len(design.methods)
    chosen = tally.repeats.criterion == number
    crossed = Crossed.by(tally.repeats.source[chosen], tally.repeats.rater[chosen])
    seconds = votes.seconds[np.isfinite(votes.seconds)]
    quartiles = np.quantile(seconds, (0.25, 0.5, 0.75)) if len(seconds) else [math.nan] * 3
    return {
        "win_rates": win_rates(design, votes, draws),
        "strengths": strengths(methods, votes, draws) if methods > 2 and len(votes) else [],
        "alpha": alpha(methods, votes, draws),
        "pairwise_agreement": pairwise_agreement(methods, votes),
        "self_agreement": mean_share(tally.repeats.same[chosen], crossed, SEED, draws),
        "seconds": {"median": float(quartiles[1]), "quartiles": [float(quartiles[0]), float(quartiles[2])]},
    }


def _beside_people(design: Design, people: Votes, judge: Votes, draws: int) -> dict[str, Any]:
    """How often people and a judge say the same of a comparison; half a time where one of them saw no difference."""
    methods = len(design.methods)
    said = dict(zip(judge.unit(methods).tolist(), judge.score.tolist(), strict=True))
    units = people.unit(methods).tolist()
    both = people.where(np.array([unit in said for unit in units], dtype=bool))
    beside = np.array([said[unit] for unit in units if unit in said])
    same = 1 - np.abs(both.score - beside)
    return {
        "agreement": mean_share(same, Crossed.by(both.source, both.rater), SEED, draws),
        "agreement_with_majority": _with_majority(methods, both, said),
        "people_among_themselves": pairwise_agreement(methods, people),
    }


def _with_majority(methods: int, people: Votes, said: dict[int, float]) -> float:
    """The same with what most people say, of comparisons where most say one thing."""
    units = people.unit(methods)
    found = []
    for unit in np.unique(units):
        middle = people.score[units == unit].mean()
        if middle != 0.5:
            found.append(1 - abs(float(middle > 0.5) - said[int(unit)]))
    return float(np.mean(found)) if found else math.nan


def _wins(methods: int, votes: Votes, groups: Groups) -> Array:
    """Wins of every method over every other in each group: [groups, methods * methods]."""
    wins = np.zeros((groups.count, methods, methods))
    np.add.at(wins, (groups.of, votes.first, votes.second), votes.score)
    np.add.at(wins, (groups.of, votes.second, votes.first), 1 - votes.score)
    return wins.reshape(groups.count, -1)
