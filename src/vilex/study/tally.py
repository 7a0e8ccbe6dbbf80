"""Answers as columns of numbers, of those raters whom the study's own rule keeps."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vilex.study.answer_store import PERSON, Answers, GivenAnswer, Rater
from vilex.study.dealing import METHOD, OTHER, Trial
from vilex.study.design import Design
from vilex.study.resampling import Array, Whole


@dataclass(frozen=True)
class Votes:
    """Answers about comparisons: columns of one length.

    Attributes:
        source, first, second: what was compared; first < second are numbers of methods.
        criterion, rater: by number.
        score: 1 where the first was chosen, 0 where the second was, 1/2 for a tie.
        seconds: NaN where unknown.
    """

    source: Whole
    first: Whole
    second: Whole
    criterion: Whole
    rater: Whole
    score: Array
    seconds: Array

    def __len__(self) -> int:
        return len(self.score)

    def where(self, chosen: np.ndarray) -> "Votes":
        """Those that a mask [n] chooses."""
        return Votes(*(column[chosen] for column in vars(self).values()))

    @property
    def value(self) -> Whole:
        """0 for the second, 1 for a tie, 2 for the first: [n]."""
        return (2 * self.score).astype(np.int64)

    def unit(self, methods: int) -> Whole:
        """A number for each comparison: [n]."""
        return (self.source * methods + self.first) * methods + self.second


@dataclass(frozen=True)
class Conduct:
    """How a rater did.

    Attributes:
        checks: (right, answered); one is right by most of its answers.
        finished: share of all questions. seconds: the median of an answer, or NaN.
        left_out: by which part of the study's rule; empty for who counts.
    """

    rater: Rater
    checks: tuple[int, int]
    finished: float
    seconds: float
    left_out: str = ""


@dataclass(frozen=True)
class Repeats:
    """Comparisons that a rater saw twice. same: 1 where the second answer is the first one, else 0."""

    source: Whole
    criterion: Whole
    rater: Whole
    same: Array


@dataclass(frozen=True)
class Tally:
    """A study's answers, counted. votes, repeats: of the raters who are kept."""

    conduct: tuple[Conduct, ...]
    votes: Votes
    repeats: Repeats

    @property
    def kept(self) -> list[Conduct]:
        """The raters who count."""
        return [one for one in self.conduct if not one.left_out]


def count_people(answers: Answers) -> Tally:
    """The answers of people, under the study's rule."""
    design = answers.study.design
    by_rater = _by_rater(answers, (rater for rater in answers.raters() if rater.kind == PERSON))
    conduct = tuple(conduct_of(design, rater, given) for rater, given in by_rater.items())
    kept = {one.rater: by_rater[one.rater] for one in conduct if not one.left_out}
    return Tally(conduct, votes_of(design, kept), repeats_of(design, kept))


def count_judges(answers: Answers) -> dict[str, Votes]:
    """The answers of automatic judges, by name."""
    raters = [rater for rater in answers.raters() if rater.kind != PERSON]
    names = sorted({rater.kind for rater in raters})
    return {
        name: votes_of(answers.study.design, _by_rater(answers, (one for one in raters if one.kind == name)))
        for name in names
    }


def conduct_of(design: Design, rater: Rater, given: list[GivenAnswer]) -> Conduct:
    """How a rater did, and by which part of the rule they are left out, if any."""
    trials, rule = design.slots[rater.slot], design.plan.rule
    said: dict[int, list[bool]] = {}
    for one in given:
        trial = trials[one.trial]
        if trial.kind == "check" and counts_as_check(trial, one.criterion):
            said.setdefault(one.trial, []).append(_chosen(trial, one.choice) == METHOD)
    right = [2 * sum(answers) > len(answers) for answers in said.values()]
    times = [one.seconds for one in given if trials[one.trial].kind == "main" and one.seconds is not None]
    median = float(np.median(times)) if times else float("nan")
    finished = len(given) / (len(trials) * len(design.plan.criteria))
    reason = ""
    if right and sum(right) < rule.checks * len(right):
        reason = f"{sum(right)} of {len(right)} checks right, under {rule.checks:.0%}"
    elif finished < rule.finished:
        reason = f"answered {finished:.0%}, under {rule.finished:.0%}"
    elif median < rule.seconds:
        reason = f"median of {median:.2f} seconds an answer, under {rule.seconds:g}"
    return Conduct(rater, (sum(right), len(right)), finished, median, reason)


def counts_as_check(trial: Trial, criterion: str) -> bool:
    """Noise is wrong in every respect; another source in what it shows alone, for its style may be the same."""
    return criterion == "semantic" or OTHER not in (trial.left.what, trial.right.what)


def votes_of(design: Design, given: dict[Rater, list[GivenAnswer]]) -> Votes:
    """Answers about comparisons; repeats, checks and practice left out."""
    rows = []
    for rater, answers in given.items():
        for answer in answers:
            trial = design.slots[rater.slot][answer.trial]
            if trial.kind == "main":
                rows.append((*_compared(trial), *_how(design, rater, answer, trial)))
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    whole = [np.array(column, dtype=np.int64) for column in columns[:5]]
    return Votes(*whole, *(np.array(column, dtype=float) for column in columns[5:]))  # type: ignore[arg-type]


def repeats_of(design: Design, given: dict[Rater, list[GivenAnswer]]) -> Repeats:
    """Second answers beside the first ones."""
    rows = []
    for rater, answers in given.items():
        trials, said = design.slots[rater.slot], {(one.trial, one.criterion): one for one in answers}
        for (place, criterion), again in said.items():
            first = said.get((trials[place].of, criterion))
            if trials[place].kind == "repeat" and first is not None:
                pair = [_score(trials[one.trial], one.choice) for one in (first, again)]
                rows.append(
                    (trials[place].source, design.plan.criteria.index(criterion), rater.number, pair[0] == pair[1])
                )
    columns = list(zip(*rows, strict=True)) if rows else [()] * 4
    whole = [np.array(column, dtype=np.int64) for column in columns[:3]]
    return Repeats(whole[0], whole[1], whole[2], np.array(columns[3], dtype=float))


def _by_rater(answers: Answers, raters: Iterable[Rater]) -> dict[Rater, list[GivenAnswer]]:
    found: dict[int, list[GivenAnswer]] = {}
    for answer in answers.all():
        found.setdefault(answer.rater, []).append(answer)
    return {rater: found.get(rater.number, []) for rater in raters}


def _compared(trial: Trial) -> tuple[int, int, int]:
    return (trial.source, *sorted((trial.left.number, trial.right.number)))  # type: ignore[return-value]


def _how(design: Design, rater: Rater, answer: GivenAnswer, trial: Trial) -> tuple[int, int, float, float]:
    seconds = np.nan if answer.seconds is None else answer.seconds
    return design.plan.criteria.index(answer.criterion), rater.number, _score(trial, answer.choice), seconds


def _score(trial: Trial, choice: str) -> float:
    """1 if the method of the lower number was chosen, 0 if the other was, 1/2 for a tie."""
    if choice == "tie":
        return 0.5
    return float((choice == "left") == (trial.left.number < trial.right.number))


def _chosen(trial: Trial, choice: str) -> str:
    return {"left": trial.left.what, "right": trial.right.what}.get(choice, "tie")
