"""Two ways to do a thing, timed in turn, A B A B ...: absolute times are the machine's, ratios travel."""

import statistics
import time
from collections.abc import Callable


def compare(ours: Callable[[], object], other: Callable[[], object], rounds: int) -> dict[str, float]:
    """Median milliseconds of both, and the median of the ratios pair by pair."""
    ours(), other()
    pairs = [(_milliseconds(ours), _milliseconds(other)) for _ in range(rounds)]
    return {
        "ours": round(statistics.median(a for a, _ in pairs), 2),
        "other": round(statistics.median(b for _, b in pairs), 2),
        "ratio": round(statistics.median(a / b for a, b in pairs), 3),
    }


def _milliseconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return (time.perf_counter() - started) * 1e3
