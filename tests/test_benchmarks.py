import pytest

from benchmarks import memory, training


@pytest.mark.parametrize("pair", [training.floor_pair, training.plain_pair, training.loading_pair])
def test_both_sides_of_a_pair_run(pair, monkeypatch):
    monkeypatch.setattr(training, "BATCH", 4)
    monkeypatch.setattr(training, "SEVERAL", 2)
    for step in pair():
        step()


def test_the_usual_loop_needs_more_memory_at_real_sizes():
    counted = memory.count()
    assert counted["ours"] > 5_000  # weights alone are 3 GB
    assert counted["ratio"] < 0.6
