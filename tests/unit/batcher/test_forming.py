"""Static batches: which requests share a batch, and when a batch begins, after any sequence of calls."""

import math

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from llmactors.batcher.forming import BatchFormer
from llmactors.ledger import Claim
from llmactors.messages import GenerateRequest

SIZES = (8, 16, 64)


def claim(number: int, max_tokens: int, waited_s: float = 0.0) -> Claim:
    request = GenerateRequest(f"r{number}", "m", "p", max_tokens=max_tokens)
    return Claim(request, epoch=1, attempt=1, quarantined=False, tokens=(), waited_s=waited_s)


def numbers(batch: list[Claim]) -> list[int]:
    return [int(each.request.id[1:]) for each in batch]


@attrs.define
class Expected:
    number: int
    size: int
    due: float


class Machine(RuleBasedStateMachine):
    """A former beside a plain list of the waiting requests, in the order of their claims."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.ended = -math.inf
        self.added = 0
        self.waiting: list[Expected] = []

    @initialize(
        window_s=st.sampled_from([0.0, 0.01, 0.02, 0.3]),
        slots=st.integers(1, 6),
        now=st.floats(0, 1e6),
    )
    def begin(self, window_s: float, slots: int, now: float) -> None:
        self.former = BatchFormer(window_s)
        self.slots = slots
        self.now = now

    @rule(
        sizes=st.lists(st.sampled_from(SIZES), min_size=1, max_size=6),
        waited_s=st.sampled_from([0.0, 0.0, 0.005, 0.02, 1.0]),
    )
    def add(self, sizes: list[int], waited_s: float) -> None:
        for size in sizes:
            self.former.add(claim(self.added, size, waited_s), self.now)
            queued = self.now - waited_s
            due = self.now if queued < self.ended else queued + self.former.window_s
            self.waiting.append(Expected(self.added, size, due))
            self.added += 1

    @rule(seconds=st.sampled_from([0.001, 0.01, 0.02, 0.1]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def pass_time_until_due(self) -> None:
        """Exactly until then, so that rounding cannot miss the moment."""
        if math.isfinite(due := self.former.due(self.slots)):
            self.now = max(self.now, due)

    @rule()
    def end_a_batch(self) -> None:
        self.former.batch_ended(self.now)
        self.ended = self.now
        for item in self.waiting:
            item.due = min(item.due, self.now)

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        gone = data.draw(st.sets(st.integers(0, self.added + 1), max_size=3))
        self.former.drop(frozenset({(f"r{number}", 1) for number in gone} | {(f"r{number}", 2) for number in range(9)}))
        self.waiting = [item for item in self.waiting if item.number not in gone]

    @rule()
    def next_batch(self) -> None:
        batch = numbers(self.former.next_batch(self.now, self.slots))
        first = self.group()
        full = len(self.waiting) >= self.slots
        if first and (full or any(self.now >= item.due for item in self.waiting)):
            assert batch == [item.number for item in first[: self.slots]], "the earliest claim's group, in order"
        else:
            assert batch == []
        self.waiting = [item for item in self.waiting if item.number not in batch]

    @rule()
    def clear(self) -> None:
        assert numbers(self.former.clear()) == [item.number for item in self.waiting]
        self.waiting = []

    @invariant()
    def counts(self) -> None:
        if not hasattr(self, "former"):
            return
        assert len(self.former) == len(self.waiting)
        due = self.former.due(self.slots)
        if not self.waiting:
            assert due == math.inf
        elif due > -math.inf:
            assert due == min(item.due for item in self.waiting)

    def group(self) -> list[Expected]:
        """The group that the earliest claim belongs to."""
        return [item for item in self.waiting if item.size == self.waiting[0].size]


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.floats(0, 1e9), st.floats(0, 10))
def test_batch_is_due_at_its_moment_and_not_before(now: float, window_s: float) -> None:
    former = BatchFormer(window_s)
    former.add(claim(1, 8), now)
    due = former.due(4)
    before = math.nextafter(due, -math.inf)
    if before >= now:
        assert former.next_batch(before, 4) == []
    assert numbers(former.next_batch(due, 4)) == [1]
    assert former.due(4) == math.inf


def test_backend_without_slots_gets_no_batch() -> None:
    former = BatchFormer()
    former.add(claim(1, 8), 0)
    assert former.next_batch(100, 0) == []
    assert former.due(0) == math.inf
    assert len(former) == 1


def test_later_group_never_overtakes_an_earlier_one() -> None:
    """Even where the later one has waited for its window, the earlier one goes first."""
    former = BatchFormer(window_s=1)
    former.add(claim(1, 8), 0.5)
    former.add(claim(2, 16, waited_s=0.5), 0.5)
    former.add(claim(3, 16), 0.5)
    assert former.next_batch(0.9, 8) == []
    assert numbers(former.next_batch(1, 8)) == [1]
    former.batch_ended(1.25)
    assert numbers(former.next_batch(1.25, 8)) == [2, 3]


def test_order_is_that_of_claims_not_of_arrivals() -> None:
    """The ledger's fair order can put a new request before one that has waited for long."""
    former = BatchFormer(window_s=1)
    former.add(claim(1, 8, waited_s=2), 10)
    former.add(claim(2, 16, waited_s=9), 10)
    assert numbers(former.next_batch(10, 8)) == [1]
    assert numbers(former.next_batch(10, 8)) == [2]


def test_window_counts_from_the_queue() -> None:
    former = BatchFormer(window_s=1)
    former.add(claim(1, 8, waited_s=0.25), 10)
    assert former.due(8) == 10.75


def test_group_is_full_where_nothing_more_can_be_claimed() -> None:
    former = BatchFormer(window_s=1)
    former.add(claim(1, 8), 0)
    former.add(claim(2, 16), 0)
    assert former.next_batch(0, 3) == []
    assert numbers(former.next_batch(0, 2)) == [1]


def test_wait_behind_a_batch_is_the_window() -> None:
    former = BatchFormer(window_s=1)
    former.add(claim(1, 8), 10)
    former.batch_ended(10.5)
    former.add(claim(2, 8, waited_s=0.2), 10.6)
    assert numbers(former.next_batch(10.6, 8)) == [1, 2]
    former.add(claim(3, 8, waited_s=0.0625), 10.6)
    assert former.due(8) == 10.6 - 0.0625 + 1
