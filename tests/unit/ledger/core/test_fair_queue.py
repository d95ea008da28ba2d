"""The fair queue is work-conserving and fair, starves no tenant, and serves each tenant first come, first served."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmactors.ledger.core.fair_queue import FairQueue, QueueEntry
from tests.support.residue import residue

COSTS = st.sampled_from([1, 5, 64, 100, 4096])
TENANTS = st.sampled_from(["a", "b", "c"])
ARRIVALS = st.lists(st.tuples(TENANTS, COSTS), min_size=1, max_size=60)


def drain(queue: FairQueue) -> list[QueueEntry]:
    drained = []
    while (entry := queue.pop()) is not None:
        drained.append(entry)
    return drained


def fill(queue: FairQueue, arrivals: list[tuple[str, int]]) -> list[QueueEntry]:
    entries = [QueueEntry(f"t{number}", tenant, cost) for number, (tenant, cost) in enumerate(arrivals)]
    for entry in entries:
        queue.push(entry)
    return entries


def test_pop_of_an_empty_queue_is_none() -> None:
    assert FairQueue().pop() is None


@settings(deadline=None)
@given(ARRIVALS)
def test_each_entry_is_served_once_in_its_tenants_order(arrivals: list[tuple[str, int]]) -> None:
    queue = FairQueue()
    entries = fill(queue, arrivals)
    drained = drain(queue)
    assert sorted(each.serial for each in drained) == [each.serial for each in entries]
    for tenant in "abc":
        serials = [each.serial for each in drained if each.tenant == tenant]
        assert serials == sorted(serials)


@settings(deadline=None)
@given(ARRIVALS)
def test_waiting_tenants_get_equal_shares(arrivals: list[tuple[str, int]]) -> None:
    """The bound of the paper: the costs served differ by at most the most expensive request of each tenant."""
    queue = FairQueue()
    entries = fill(queue, arrivals)
    left = Counter(entry.tenant for entry in entries)
    dearest = {tenant: max(each.cost for each in entries if each.tenant == tenant) for tenant in left}
    served = dict.fromkeys(left, 0.0)
    while (entry := queue.pop()) is not None:
        served[entry.tenant] += entry.cost
        left[entry.tenant] -= 1
        waiting = [tenant for tenant, count in left.items() if count]
        for one in waiting:
            for other in waiting:
                assert abs(served[one] - served[other]) <= dearest[one] + dearest[other]


@settings(deadline=None)
@given(ARRIVALS, st.integers(0, 59), COSTS)
def test_new_tenant_does_not_wait_for_long_queues(arrivals: list[tuple[str, int]], popped: int, cost: int) -> None:
    """Before a new tenant, each other tenant is served at most what it was owed, and one request."""
    queue = FairQueue()
    entries = fill(queue, arrivals)
    for _ in range(min(popped, len(entries) - 1)):
        queue.pop()
    dearest = {each.tenant: 0.0 for each in entries}
    for each in entries:
        dearest[each.tenant] = max(dearest[each.tenant], each.cost)
    newcomer = QueueEntry("new", "newcomer", cost)
    queue.push(newcomer)
    served: Counter[str] = Counter()
    while (entry := queue.pop()) is not newcomer:
        assert entry is not None
        served[entry.tenant] += int(entry.cost)
    assert all(cost <= 2 * dearest[tenant] for tenant, cost in served.items())


@settings(deadline=None)
@given(st.integers(1, 30), COSTS, COSTS)
def test_absent_tenant_earns_no_credit(served_before: int, cost: int, late_cost: int) -> None:
    """A tenant that comes late, or comes back, gets an equal share from then on, and nothing for the past."""
    queue = FairQueue()
    fill(queue, [("here", cost)] * 100)
    for _ in range(served_before):
        queue.pop()
    fill(queue, [("late", late_cost)] * 100)
    served = {"here": 0.0, "late": 0.0}
    for _ in range(50):
        entry = queue.pop()
        assert entry is not None
        served[entry.tenant] += entry.cost
        assert served["late"] - served["here"] <= cost + late_cost


def test_leaving_and_returning_gains_nothing() -> None:
    """A tenant that submits one by one gets only its share: its last finish tag is kept while others wait."""
    queue = FairQueue()
    fill(queue, [("patient", 10)] * 20)
    served = []
    for number in range(10):
        queue.push(QueueEntry(f"sly{number}", "sly", 10))
        while (entry := queue.pop()) is not None:
            served.append(entry.tenant)
            if entry.tenant == "sly":
                break
    assert served.count("sly") <= served.count("patient") + 1


@settings(deadline=None)
@given(ARRIVALS, st.data())
def test_queue_is_work_conserving(arrivals: list[tuple[str, int]], data: st.DataObject) -> None:
    """After push, pop, put back and remove in any order, exactly the entries that were not taken out wait."""
    queue = FairQueue()
    waiting: dict[str, QueueEntry] = {}
    out: list[QueueEntry] = []
    for entry in (QueueEntry(f"t{number}", tenant, cost) for number, (tenant, cost) in enumerate(arrivals)):
        queue.push(entry)
        waiting[entry.key] = entry
        action = data.draw(st.sampled_from(["push", "pop", "put back", "remove"]))
        if action == "pop":
            popped = queue.pop()
            assert popped is not None
            assert not any(each.tenant == popped.tenant and each.serial < popped.serial for each in waiting.values())
            out.append(waiting.pop(popped.key))
        elif action == "put back" and out:
            back = out.pop(data.draw(st.integers(0, len(out) - 1)))
            queue.put_back(back)
            waiting[back.key] = back
        elif action == "remove" and waiting:
            queue.remove(waiting.pop(data.draw(st.sampled_from(sorted(waiting)))))
        assert len(queue) == len(waiting)
        assert all(each.waiting for each in waiting.values())
    assert {each.key for each in drain(queue)} == set(waiting)
    assert set(residue(queue)) == set()


@pytest.mark.parametrize("others", [0, 3])
def test_returned_entry_is_first_and_not_charged_twice(others: int) -> None:
    queue = FairQueue()
    fill(queue, [("a", 10), ("a", 10), ("b", 10), ("b", 10)] + [("c", 10)] * others)
    first = queue.pop()
    assert first is not None
    for _ in range(5):
        queue.put_back(first)
        assert queue.pop() is first
    second = queue.pop()
    assert second is not None
    assert (first.tenant, second.tenant) == ("a", "b")


def test_returned_entry_is_first_after_an_empty_queue() -> None:
    queue = FairQueue()
    fill(queue, [("a", 1000)] * 5)
    last = drain(queue)[-1]
    fill(queue, [("a", 1), ("b", 1)])
    queue.put_back(last)
    assert queue.pop() is last


def test_removed_entry_costs_its_tenant_nothing() -> None:
    queue = FairQueue()
    dear = fill(queue, [("a", 4096)] * 9 + [("b", 10)] * 9)[:9]
    for entry in dear:
        queue.remove(entry)
    late = QueueEntry("late", "a", 10)
    queue.push(late)
    assert late in [queue.pop(), queue.pop()]


def test_unserved_queue_does_not_grow_by_removed_entries() -> None:
    queue = FairQueue()
    fill(queue, [("stuck", 10)])
    for number in range(2000):
        entry = QueueEntry(f"n{number}", f"tenant{number}", 10)
        queue.push(entry)
        queue.remove(entry)
    assert sum(residue(queue).values()) < 200
