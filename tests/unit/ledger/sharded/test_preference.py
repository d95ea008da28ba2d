"""Which shards a worker claims from first."""

from collections import Counter

import pytest

from llmactors.ledger.core.fair_queue import FairQueue, QueueEntry
from llmactors.ledger.sharded.preference import Preference, part_of_line
from llmactors.ledger.sharded.rotation import Rotation
from llmactors.ledger.values import QueueView

EQUAL = {0: 1.0, 1: 1.0, 2: 1.0}


def idle(*workers: str) -> dict[int, QueueView]:
    return {shard: QueueView({}, {}, workers) for shard in EQUAL}


def test_six_workers_have_one_shard_each() -> None:
    parts = [part_of_line(place, 6, EQUAL) for place in range(6)]
    assert [[*part] for part in parts] == [[0], [0], [1], [1], [2], [2]]


def test_two_workers_share_the_shard_between_them() -> None:
    one, two = (part_of_line(place, 2, EQUAL) for place in range(2))
    assert one == pytest.approx({0: 2 / 3, 1: 1 / 3})
    assert two == pytest.approx({1: 1 / 3, 2: 2 / 3})


def test_one_worker_has_all_shards() -> None:
    assert part_of_line(0, 1, EQUAL).keys() == {0, 1, 2}


def test_small_part_of_a_shard_is_left_to_others() -> None:
    assert [*part_of_line(0, 2, {0: 1.0, 1: 1.1})] == [0]


def test_worker_prefers_nothing_before_it_is_known() -> None:
    preference = Preference("b")
    assert preference.own_shards({0, 1, 2}, is_mostly_free=True) == {}
    preference.learn(idle("a", "c"))
    assert preference.own_shards({0, 1, 2}, is_mostly_free=True) == {}
    preference.learn(idle("a", "b", "c"))
    assert [*preference.own_shards({0, 1, 2}, is_mostly_free=True)] == [1]


def test_worker_that_joined_a_shard_again_is_counted_once() -> None:
    preference = Preference("b")
    preference.learn(idle("a", "b") | {1: QueueView({}, {}, ("a~1", "b"))})
    assert preference.own_shards({0, 1, 2}, is_mostly_free=True) == pytest.approx({1: 1 / 3, 2: 2 / 3})


def test_no_shard_is_preferred_while_none_answers() -> None:
    preference = Preference("a")
    preference.learn(idle("a"))
    assert preference.own_shards(set(), is_mostly_free=True) == {}


class Cluster:
    """Workers that are never idle, on queues in which tenants always have requests."""

    def __init__(self, tenants: tuple[int, ...], speeds: tuple[float, ...]) -> None:
        self.queues = {shard: FairQueue() for shard in range(len(tenants))}
        self.tenants = dict(enumerate(tenants))
        self.served: Counter[tuple[int, str]] = Counter()
        self.workers = {f"w{number}": speed for number, speed in enumerate(speeds)}
        self.preferences = {name: Preference(name) for name in self.workers}
        self.rotations = {name: Rotation() for name in self.workers}
        self.mixed = 0
        for shard, count in self.tenants.items():
            for number in range(count):
                for _ in range(2):
                    self._add(shard, f"t{number}")

    def _add(self, shard: int, tenant: str) -> None:
        key = f"{shard} {tenant} {self.served.total()} {len(self.queues[shard])}"
        self.queues[shard].push(QueueEntry(key, tenant, 10.0))

    def run(self, seconds: float) -> None:
        """Lets time pass in portions of a quarter of a second, which is how often workers look at the queues."""
        owed = dict.fromkeys(self.workers, 0.0)
        for _ in range(round(4 * seconds)):
            views = {
                shard: QueueView({1: self.tenants[shard]}, {1: queue._virtual}, [*self.workers])
                for shard, queue in self.queues.items()
            }
            for preference in self.preferences.values():
                preference.learn(views)
            for name, speed in self.workers.items():
                owed[name] += speed / 4
                while owed[name] >= 1:
                    owed[name] -= 1
                    self._claim(name)

    def _claim(self, name: str) -> None:
        preference = self.preferences[name]
        own = preference.own_shards({*self.queues}, is_mostly_free=False)
        self.mixed += not own
        asked = own.keys() or self.queues.keys()
        [shard] = self.rotations[name].share(1, asked, own or preference.weights)
        entry = self.queues[shard].pop()
        assert entry is not None
        self.served[shard, entry.tenant] += 1
        self._add(shard, entry.tenant)


@pytest.mark.parametrize("tenants", [(4, 4, 4), (9, 1, 2)])
@pytest.mark.parametrize("speeds", [(20.0, 20.0), (40.0, 5.0, 10.0), (20.0, 0.0, 20.0), (2.0,) * 9])
def test_tenants_get_equal_parts_wherever_they_wait(tenants: tuple[int, ...], speeds: tuple[float, ...]) -> None:
    """Also where workers are not equally fast, or one of them takes nothing."""
    cluster = Cluster(tenants, speeds)
    cluster.run(60)
    fair = sum(speeds) * 60 / sum(tenants)
    assert min(cluster.served.values()) > 0.75 * fair
    assert max(cluster.served.values()) < 1.35 * fair


def test_equal_workers_keep_to_their_shards() -> None:
    cluster = Cluster((4, 4, 4), (20.0,) * 6)
    cluster.run(20)
    assert cluster.mixed < 0.05 * cluster.served.total()
