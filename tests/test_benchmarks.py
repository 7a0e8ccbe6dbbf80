from pathlib import Path

import pytest

import benchmarks.__main__ as benchmarks
from benchmarks import memory, training

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


@pytest.mark.parametrize("pair", [training.floor_pair, training.plain_pair, training.loading_pair])
def test_both_sides_of_a_pair_run(pair, monkeypatch):
    monkeypatch.setattr(training, "BATCH", 4)
    monkeypatch.setattr(training, "SEVERAL", 2)
    for step in pair():
        step()


@pytest.mark.slow
def test_the_usual_loop_needs_more_of_both_at_real_sizes():
    held, done = memory.count_memory(), memory.count_arithmetic()
    assert held["ours"] > 5_000 and held["ratio"] < 0.6  # weights alone are 3 GB
    assert 0.67 < done["ratio"] < 0.9  # a third of the frozen parts' arithmetic is their weights' gradients


def test_a_step_of_training_waits_once(monkeypatch):
    monkeypatch.setattr(training, "BATCH", 4)
    assert training.count_syncs()["ours"] == 1


def test_every_benchmark_has_a_goal_and_a_line_in_the_page():
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    for name, goal in benchmarks.GOALS.items():
        (line,) = (line for line in lines if line.startswith(f"| {name}:"))
        assert float(line.split(" | ")[2]) == goal
    assert benchmarks.GOALS.keys() == benchmarks.make_measures(1).keys()
