from benchmarks.__main__ import train_pair


def test_the_training_pair_runs():
    for step in train_pair():
        step()
