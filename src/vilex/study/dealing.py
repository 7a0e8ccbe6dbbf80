"""Which rater sees what: comparisons dealt evenly by seed, sides in turn, with repeats, checks and a practice round.

A comparison is one source and two methods. Every rater gets those that were dealt least so far, and of these such as
even out the pairs of methods and the sources that the rater sees; so that after any number of raters two comparisons
were dealt the same number of times or once apart, and none twice to one rater. Each comparison changes sides every
time it is dealt.
"""

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from vilex.errors import InputError

Kind = Literal["practice", "main", "repeat", "check"]
METHOD, NOISE, OTHER = "method", "noise", "source"  # what a picture shows: a method's, noise, another source


@dataclass(frozen=True)
class Pictured:
    """A picture of a trial. what: METHOD (number: which one), NOISE, or OTHER (number: which source)."""

    what: str
    number: int = 0


@dataclass(frozen=True)
class Trial:
    """What a rater sees at once. of: the place of the trial that a repeat shows again."""

    kind: Kind
    source: int
    left: Pictured
    right: Pictured
    of: int = -1


@dataclass(frozen=True)
class Deal:
    """How many of what each rater sees."""

    comparisons: int
    repeats: int
    checks: int
    practice: int


@dataclass(frozen=True)
class Easy:
    """A check's material: a method's picture that is near its source, and a source that is far from it."""

    source: int
    method: int
    other: int


def method_pairs(methods: int, against: int | None = None) -> list[tuple[int, int]]:
    """All pairs of methods, or those with one of them."""
    return [pair for pair in combinations(range(methods), 2) if against is None or against in pair]


def deal_trials(
    sources: int, pairs: list[tuple[int, int]], deal: Deal, easy: list[Easy], raters: int, seed: int
) -> list[list[Trial]]:
    """The trials of each of `raters` raters, in the order they are seen.

    Args:
        sources: how many. easy: material for checks and practice, at least one.
    Raises:
        InputError: a rater would have to see a comparison twice, or repeat more than there is.
    """
    items = [(source, pair) for source in range(sources) for pair in pairs]
    if deal.comparisons > len(items):
        raise InputError(
            f"--comparisons {deal.comparisons}: {sources} sources and {len(pairs)} pairs of methods make "
            f"{len(items)}; give at most so many"
        )
    if deal.repeats > deal.comparisons:
        raise InputError(f"--repeats {deal.repeats}: expected at most --comparisons, {deal.comparisons}")
    rng = np.random.default_rng(seed)
    of_source = np.array([source for source, _ in items])
    of_pair = np.array([pairs.index(pair) for _, pair in items])
    dealt = np.zeros(len(items), dtype=int)
    turned = rng.integers(0, 2, len(items))
    slots = []
    for _ in range(raters):
        chosen = _choose(dealt, of_source, of_pair, deal.comparisons, rng)
        main = [_comparison(items[i][0], items[i][1], bool(turned[i] % 2)) for i in chosen]
        dealt[chosen] += 1
        turned[chosen] += 1
        slots.append(_arranged(main, deal, easy, rng))
    return slots


def _choose(
    dealt: np.ndarray, of_source: np.ndarray, of_pair: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """`count` different comparisons, the least dealt first, in random order."""
    luck = rng.random(len(dealt))
    seen_source, seen_pair = np.zeros(of_source.max() + 1), np.zeros(of_pair.max() + 1)
    free = np.ones(len(dealt), dtype=bool)
    chosen = np.empty(count, dtype=int)
    for i in range(count):
        order = np.lexsort((luck, seen_source[of_source], seen_pair[of_pair], dealt, ~free))
        chosen[i] = order[0]
        free[order[0]] = False
        seen_source[of_source[order[0]]] += 1
        seen_pair[of_pair[order[0]]] += 1
    return rng.permutation(chosen)


def _comparison(source: int, pair: tuple[int, int], turned: bool) -> Trial:
    left, right = (Pictured(METHOD, method) for method in (pair[::-1] if turned else pair))
    return Trial("main", source, left, right)


def _arranged(main: list[Trial], deal: Deal, easy: list[Easy], rng: np.random.Generator) -> list[Trial]:
    """Practice, then comparisons with checks strewn in; repeats of the first half follow in the second, turned."""
    start, turn = int(rng.integers(len(easy))), int(rng.integers(2))
    practice = [_check("practice", easy[(start - 1 - i) % len(easy)], i, turn) for i in range(deal.practice)]
    checks = [_check("check", easy[(start + i) % len(easy)], i, turn) for i in range(deal.checks)]
    checks = [checks[i] for i in rng.permutation(len(checks))]
    order: list[tuple[float, Trial, Trial | None]] = [(float(i), trial, None) for i, trial in enumerate(main)]
    order += [(at, check, None) for check, at in zip(checks, rng.uniform(0, len(main), len(checks)), strict=True)]
    again = rng.permutation(max(len(main) // 2, deal.repeats))[: deal.repeats]
    for i in again:
        first = main[i]
        repeat = replace(first, kind="repeat", left=first.right, right=first.left)
        low = max(i + 1, len(main) / 2, min(i + len(main) / 4, len(main)))  # not at once
        order.append((rng.uniform(low, len(main) + 1), repeat, first))
    order.sort(key=lambda one: one[0])
    trials = [*practice, *(trial for _, trial, _ in order)]
    place = {id(trial): i for i, trial in enumerate(trials)}
    firsts = {place[id(trial)]: place[id(first)] for _, trial, first in order if first is not None}
    return [replace(trial, of=firsts.get(i, -1)) for i, trial in enumerate(trials)]


def _check(kind: Kind, easy: Easy, number: int, turn: int) -> Trial:
    """Noise and another source in turn, each as often on either side: who always takes one side gets half right."""
    right = Pictured(METHOD, easy.method)
    wrong = Pictured(NOISE) if number % 2 == 0 else Pictured(OTHER, easy.other)
    turned = (number + number // 2 + turn) % 2
    return Trial(kind, easy.source, *((right, wrong) if turned else (wrong, right)))
