"""Priority classes are served in order, and no class starves."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmactors.ledger.core.class_queue import ClassQueue
from llmactors.ledger.core.fair_queue import QueueEntry
from tests.support.residue import residue


def entry(number: int, priority: int) -> QueueEntry:
    return QueueEntry(f"t{number}", "tenant", 1, priority)


def test_pop_of_an_empty_queue_is_none() -> None:
    assert ClassQueue().pop() is None
    assert not ClassQueue()


def test_most_urgent_class_is_served_first() -> None:
    queue = ClassQueue(passed_over_max=4)
    for number in range(12):
        queue.push(entry(number, priority=number % 2))
    served = [each.priority for _ in range(12) if (each := queue.pop())]
    assert served == [0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 1, 1]


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(2, 4))
def test_wait_of_each_class_is_bounded(passed_over_max: int, classes: int) -> None:
    queue = ClassQueue(passed_over_max)
    waited = dict.fromkeys(range(classes), 0)
    for number in range(classes * 3):
        queue.push(entry(number, number % classes))
    for number in range(200):
        served = queue.pop()
        assert served is not None
        # Each class always has something waiting.
        queue.push(entry(1000 + number, served.priority))
        waited = {priority: 0 if priority == served.priority else times + 1 for priority, times in waited.items()}
        assert max(waited.values()) <= passed_over_max + classes - 2


@pytest.mark.parametrize("leave", ["pop", "remove"])
def test_empty_class_is_forgotten(leave: str) -> None:
    queue = ClassQueue()
    entries = [entry(number, number) for number in range(50)]
    for each in entries:
        queue.push(each)
    assert len(queue) == 50
    for each in entries:
        if leave == "pop":
            queue.pop()
        else:
            queue.remove(each)
    assert residue(queue) == {}
