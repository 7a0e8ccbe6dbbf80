import math
from collections import Counter

import pytest

from vilex.data.order import Batches, SourceMixture


class TestOrder:
    def batches(self, **settings):
        defaults = {"batch_size": 4, "seed": 3, "start": 0, "steps": 10}
        return list(Batches([10], [1.0], **{**defaults, **settings}))

    def test_all_are_visited_once_an_epoch_and_a_resumed_order_is_the_same(self):
        whole = self.batches()
        assert self.batches(start=6) == whole[6:]
        visited = [visit.index for batch in whole for visit in batch]
        assert all(sorted(visited[i : i + 10]) == list(range(10)) for i in range(0, 40, 10))
        assert visited[:10] != visited[10:20]
        assert self.batches(seed=4) != whole

    def test_ranks_share_the_one_order(self):
        whole = self.batches()
        for world in (2, 4):
            parts = [self.batches(rank=rank, world=world) for rank in range(world)]
            assert [[visit for part in step for visit in part] for step in zip(*parts, strict=True)] == whole

    def test_mixtures_meet_their_weights_and_visit_each_source_in_full(self):
        mixture = SourceMixture([1, 2, 7], seed=0)
        turns = [mixture.turn(visit) for visit in range(3000)]
        assert Counter(source for source, _ in turns) == {0: 300, 1: 600, 2: 2100}
        for source in range(3):
            assert [turn for s, turn in turns if s == source] == list(range(300 * (1, 2, 7)[source]))
        assert Counter(source for source, _ in turns[:100])[2] in range(60, 80)


@pytest.mark.parametrize("weights", [[1, 1e-4], [1, 1, 3e-5], [1.0, 0.0007]])
def test_the_rarest_source_has_its_turns(weights):
    mixture = SourceMixture(weights, seed=0)
    visits = math.ceil(sum(weights) / min(weights)) * 2
    turns = Counter(mixture.turn(visit)[0] for visit in range(visits))
    assert 1 <= turns[len(weights) - 1] <= 4
    assert [mixture.turn(visit)[1] for visit in range(visits) if mixture.turn(visit)[0]][:1] == [0]
