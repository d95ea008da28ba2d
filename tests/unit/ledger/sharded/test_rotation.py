"""Which shards a worker asks."""

from collections import Counter

from llmactors.ledger.sharded.rotation import Rotation, weights


def test_free_slots_are_divided() -> None:
    assert Rotation().share(7, {0, 1, 2}, {}) == {0: 3, 1: 2, 2: 2}


def test_one_slot_goes_to_each_shard_in_turn() -> None:
    rotation = Rotation()
    asked = [shard for _ in range(9) for shard in rotation.share(1, {0, 1, 2}, {})]
    assert Counter(asked) == {0: 3, 1: 3, 2: 3}
    assert len(set(asked[:3])) == 3


def test_shard_is_asked_as_often_as_tenants_wait_there() -> None:
    rotation, weight_of = Rotation(), weights({0: {1: 1}, 1: {1: 9}})
    asked: Counter[int] = Counter()
    for _ in range(50):
        asked.update(rotation.share(2, {0, 1}, weight_of))
    assert asked == {0: 10, 1: 90}


def test_less_urgent_requests_elsewhere_wait_and_do_not_starve() -> None:
    rotation, weight_of = Rotation(), weights({0: {0: 1}, 1: {2: 1}})
    asked: Counter[int] = Counter()
    for _ in range(170):
        asked.update(rotation.share(1, {0, 1}, weight_of))
    assert asked == {0: 160, 1: 10}


def test_shard_that_comes_back_does_not_catch_up() -> None:
    rotation = Rotation()
    for _ in range(100):
        rotation.share(1, {0}, {})
    asked: Counter[int] = Counter()
    for _ in range(10):
        asked.update(rotation.share(1, {0, 1}, {}))
    assert asked == {0: 5, 1: 5}
