import pytest

from benchmarks import memory, training


@pytest.mark.parametrize("pair", [training.floor_pair, training.plain_pair, training.loading_pair])
def test_both_sides_of_a_pair_run(pair, monkeypatch):
    monkeypatch.setattr(training, "BATCH", 4)
    monkeypatch.setattr(training, "SEVERAL", 2)
    for step in pair():
        step()


def test_the_usual_loop_needs_more_of_both_at_real_sizes():
    held, done = memory.count_memory(), memory.count_arithmetic()
    assert held["ours"] > 5_000 and held["ratio"] < 0.6  # weights alone are 3 GB
    assert 0.67 < done["ratio"] < 0.9  # a third of the frozen parts' arithmetic is their weights' gradients
