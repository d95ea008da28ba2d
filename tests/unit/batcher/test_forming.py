"""The window of static batches, as properties over any sequence of calls."""

import math

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from llmactors.batcher.forming import BatchFormer, Waiting
from llmactors.ledger import Claim
from llmactors.messages import GenerateRequest


def claim(number: int, max_tokens: int) -> Claim:
    request = GenerateRequest(f"r{number}", "m", "p", max_tokens=max_tokens)
    return Claim(request, epoch=1, attempt=1, quarantined=False, tokens=())


def numbers(batch: list[Waiting]) -> list[int]:
    return [int(item.claim.request.id[1:]) for item in batch]


@attrs.frozen
class Expected:
    number: int
    size: int
    since: float


class Machine(RuleBasedStateMachine):
    """A former beside a plain list of who waits, in order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.added = 0
        self.waiting: list[Expected] = []
        self.left: list[int] = []

    @initialize(window_s=st.sampled_from([0.0, 0.01, 0.02, 0.3]), max_batch=st.integers(1, 4), now=st.floats(0, 1e6))
    def begin(self, window_s: float, max_batch: int, now: float) -> None:
        self.former = BatchFormer(window_s, max_batch)
        self.now = now

    @rule(sizes=st.lists(st.sampled_from([8, 16, 64]), min_size=1, max_size=6))
    def add(self, sizes: list[int]) -> None:
        for size in sizes:
            self.former.add(claim(self.added, size), self.now)
            self.waiting.append(Expected(self.added, size, self.now))
            self.added += 1

    @rule(seconds=st.sampled_from([0.001, 0.01, 0.02, 0.1]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def pass_time_until_due(self) -> None:
        """Exactly: rounding must not make the moment be missed."""
        if self.former.next_due() < math.inf:
            self.now = max(self.now, self.former.next_due())

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        numbers = st.sets(st.integers(0, self.added + 1), max_size=3)
        gone = data.draw(numbers)
        self.former.drop(frozenset({(f"r{number}", 1) for number in gone} | {(f"r{number}", 2) for number in range(9)}))
        self.waiting = [item for item in self.waiting if item.number not in gone]

    @rule(idle=st.booleans(), free=st.integers(0, 6))
    def next_batch(self, *, idle: bool, free: int) -> None:
        due = [item for item in self.waiting if self.now >= item.since + self.former.window_s]
        full = {
            size for size in (8, 16, 64) if sum(item.size == size for item in self.waiting) >= self.former.max_batch
        }
        batch = numbers(self.former.next_batch(self.now, idle=idle, free=free))
        assert len(batch) <= min(free, self.former.max_batch)
        if free and self.waiting and (idle or due or full):
            assert batch, "somebody was due"
        if not batch:
            return
        assert free
        taken = [item for item in self.waiting if item.number in batch]
        assert [item.number for item in taken] == batch, "lost, twice, or not in order of arrival"
        [size] = {item.size for item in taken}
        group = [item.number for item in self.waiting if item.size == size]
        assert batch == group[: min(free, self.former.max_batch, len(group))], "the oldest go first, as many as fit"
        if not idle:
            assert size in full or taken[0] in due
        if idle or due:
            oldest_due = self.waiting[0].since if idle else min(item.since for item in due)
            assert taken[0].since == oldest_due or size in full, "not the oldest one's group"
        self.waiting = [item for item in self.waiting if item.number not in batch]

    @rule()
    def clear(self) -> None:
        cleared = [int(each.request.id[1:]) for each in self.former.clear()]
        assert sorted(cleared) == [item.number for item in self.waiting]
        since = {item.number: item.since for item in self.waiting}
        assert [since[number] for number in cleared] == sorted(since.values())
        self.waiting = []

    @invariant()
    def counts(self) -> None:
        if hasattr(self, "former"):
            assert len(self.former) == len(self.waiting)
            due = min((item.since + self.former.window_s for item in self.waiting), default=math.inf)
            assert self.former.next_due() == due


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.floats(0, 1e9), st.floats(0, 10))
def test_at_next_due_somebody_is_due_and_not_before(now: float, window_s: float) -> None:
    former = BatchFormer(window_s)
    former.add(claim(1, 8), now)
    due = former.next_due()
    before = math.nextafter(due, -math.inf)
    if before >= now:
        assert former.next_batch(before, idle=False, free=1) == []
    assert numbers(former.next_batch(due, idle=False, free=1)) == [1]
    assert former.next_due() == math.inf


def test_no_room_no_batch() -> None:
    former = BatchFormer()
    former.add(claim(1, 8), 0)
    assert former.next_batch(100, idle=True, free=0) == []
    assert len(former) == 1


def test_a_full_group_goes_before_an_older_one_that_is_not_due() -> None:
    former = BatchFormer(window_s=1, max_batch=2)
    former.add(claim(1, 8), 0)
    former.add(claim(2, 16), 0.5)
    former.add(claim(3, 16), 0.5)
    assert numbers(former.next_batch(0.6, idle=False, free=8)) == [2, 3]
    assert former.next_batch(0.6, idle=False, free=8) == []
    assert numbers(former.next_batch(0.6, idle=True, free=8)) == [1]
