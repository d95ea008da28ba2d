"""A Hypothesis state machine that drives a ledger and `LedgerModel` side by side.

Several workers claim, write, crash, drain and come back from the dead with old claims; each answer may be lost, so that
the operation is done again; readers come and go; time passes. After each step the ledger must say of every request what
the model says. Subclass it with `make_ledger`; `run` is for ledgers that need more than one step of a coroutine.
"""

# ruff: noqa: S101

from abc import abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmactors import errors
from llmactors.ledger import AppendEntry, Claim, Follower, Ledger, LedgerSettings, ReleaseHow, SubmitOutcome
from llmactors.messages import Failed, Finished, GenerateRequest, Terminal, TokenDelta, Usage
from llmactors.testing.ledger_suite.model import LedgerModel, kind_of

T = TypeVar("T")

MACHINE_SETTINGS = LedgerSettings(max_queued=6, lease_s=5.0, retention_s=20.0, tombstone_s=30.0, suspects_together=(2,))

WORKERS = st.sampled_from(["w1", "w2", "w3"])
MODELS = st.sampled_from(["m", "m", "m", "n"])
LOST = st.sampled_from([1, 1, 1, 2])
"""How often an operation is done: twice where its first answer was lost."""

ENDS: st.SearchStrategy[Terminal] = st.sampled_from(
    [Finished("stop", Usage(1, 1)), Finished("length", Usage(1, 9)), Failed("INTERRUPTED", "gone")],
)


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs what never yields to a scheduler."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise AssertionError("the operation yielded")


class ReaderState:
    """An open follower, and all that it was given."""

    def __init__(self, request_id: str, follower: Follower) -> None:
        self.request_id = request_id
        self.follower = follower
        self.outlived = False
        self.tokens: list[TokenDelta] = []
        self.ends: list[Terminal] = []

    def close(self) -> None:
        self.follower.__exit__(None, None, None)

    def take(self) -> None:
        before = self.follower.cursor
        taken = self.follower.take()
        assert taken.first_seq == before + 1
        assert not (self.ends and taken.deltas), "a token after the terminal event"
        self.tokens += taken.deltas
        if taken.end is not None:
            self.ends.append(taken.end)
        assert self.follower.cursor == len(self.tokens) + len(self.ends)


class LedgerMachine(RuleBasedStateMachine):
    """All rules; subclass it for one ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0
        self.ledger = self.make_ledger(MACHINE_SETTINGS)
        self.model = LedgerModel(MACHINE_SETTINGS)
        self.incarnations = {"w1": 0, "w2": 0, "w3": 0}
        self.claims: list[Claim] = []
        self.readings: list[ReaderState] = []
        self.submitted: list[GenerateRequest] = []

    @abstractmethod
    def make_ledger(self, settings: LedgerSettings) -> Ledger:
        """A fresh ledger, whose time is `self.now` and `self.wall_ms`."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return run_sync(coroutine)

    def do(self, action: Callable[[], object]) -> None:
        """Runs what a reader does without waiting; for ledgers that want it done in their own event loop."""
        action()

    def settle(self) -> None:
        """Returns once every reader knows what the ledger knows, and the ledger who still reads."""

    def now(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return round(self.now_s * 1000)

    def worker(self, name: str) -> str:
        return f"{name}.{self.incarnations[name]}"

    @initialize(requests=st.integers(1, 4), slots=st.integers(1, 4), written=st.integers(0, 3))
    def begin(self, requests: int, slots: int, written: int) -> None:
        """Something is always under way: Hypothesis leaves out some rules in each run, and most need this."""
        for number in range(requests):
            self.submit(tenant="ab"[number % 2], model="m", priority=1, deadline_s=None, grace_s=10_000, times=1)
        self.claim("w1", "m", slots, zombie=False)
        for claim in self.claims:
            self._append(claim, 0, written, None)

    # Gateways.

    @rule(
        tenant=st.sampled_from(["a", "b"]),
        model=MODELS,
        priority=st.integers(0, 2),
        deadline_s=st.sampled_from([None, None, 0, 3, 12]),
        grace_s=st.sampled_from([4, 10_000, 10_000]),
        times=LOST,
    )
    def submit(
        self, *, tenant: str, model: str, priority: int, deadline_s: int | None, grace_s: int, times: int
    ) -> None:
        request = GenerateRequest(
            id=f"r{len(self.submitted)}",
            model=model,
            prompt="hi",
            tenant=tenant,
            priority=priority,
            deadline_ms=None if deadline_s is None else self.wall_ms() + deadline_s * 1000,
            resume_grace_ms=grace_s * 1000,
        )
        self.submitted.append(request)
        for _ in range(times):
            assert self.run(self.ledger.submit(request)) is self.model.submit(request, self.now_s)

    @precondition(lambda self: self.submitted)
    @rule(data=st.data(), prompt=st.sampled_from(["hi", "ho"]))
    def submit_again(self, data: st.DataObject, prompt: str) -> None:
        first = data.draw(st.sampled_from(self.submitted))
        again = GenerateRequest(
            first.id,
            first.model,
            prompt,
            tenant=first.tenant,
            priority=first.priority,
            deadline_ms=first.deadline_ms,
            resume_grace_ms=first.resume_grace_ms,
        )
        outcome = self.model.submit(again, self.now_s)
        assert self.run(self.ledger.submit(again)) is outcome
        if outcome is SubmitOutcome.ACCEPTED:
            # Nothing is known of the first one any more; who still has it open reads another log.
            for reading in self.readings:
                reading.outlived |= reading.request_id == first.id

    @precondition(lambda self: self.model.requests)
    @rule(data=st.data(), times=LOST)
    def cancel(self, data: st.DataObject, times: int) -> None:
        each = self.model.requests[data.draw(st.sampled_from(sorted(self.model.requests)))]
        for _ in range(times):
            alive = each.state != "ended"
            assert self.run(self.ledger.cancel(each.request.id)) is alive
            if alive:
                self.model.close(each, "cancelled", self.now_s)

    @precondition(lambda self: self.model.requests)
    @rule(data=st.data())
    def open_reader(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.model.requests)))
        follower = self.run(self.ledger.follow(request_id))
        self.do(follower.__enter__)
        self.model.requests[request_id].readers += 1
        self.readings.append(ReaderState(request_id, follower))

    @precondition(lambda self: self.readings)
    @rule(data=st.data())
    def close_reader(self, data: st.DataObject) -> None:
        reading = self.readings.pop(data.draw(st.integers(0, len(self.readings) - 1)))
        self.do(reading.close)
        if (each := self.model.requests.get(reading.request_id)) is not None and not reading.outlived:
            each.readers -= 1
            each.unread_since = self.now_s

    # Workers.

    @rule(name=WORKERS, times=LOST)
    def beat(self, name: str, times: int) -> None:
        worker = self.worker(name)
        for _ in range(times):
            held = {(each.request.id, each.epoch) for each in self.model.held_by(worker)}
            result = self.run(self.ledger.beat(worker))
            assert result.live is self.model.beat(worker, self.now_s)
            assert not held.intersection(result.stop), "told to stop what it should run"

    @precondition(lambda self: self.model.of_state("queued"))
    @rule(name=WORKERS, model=MODELS, slots=st.sampled_from([1, 2, 4, 0]), zombie=st.sampled_from([False] * 4 + [True]))
    def claim(self, name: str, model: str, slots: int, zombie: bool) -> None:
        """Mostly by a worker that did as it should before: a dead one comes back as a new incarnation."""
        if not zombie:
            self.beat(name, 1)
            if self.worker(name) not in self.model.leases:
                self.incarnations[name] += 1
                self.beat(name, 1)
        worker = self.worker(name)
        live = self.model.is_live(worker, self.now_s)
        claims = self.run(self.ledger.claim(worker, model, slots))
        assert len(claims) <= slots
        assert live or not claims
        self.model.claim(worker, claims, self.wall_ms())
        self.claims += claims
        for each in self.model.of_state("queued"):
            # The ledger may notice a passed deadline while it looks for work.
            if each.is_overdue(self.wall_ms()) and self.run(self.ledger.info(each.request.id)).state == "ended":
                self.model.close(each, "DEADLINE_EXCEEDED", self.now_s)
        if live and len(claims) < slots:
            assert self.model.may_be_left_waiting(worker, model, claims, self.wall_ms())

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        shift=st.sampled_from([0, 0, 0, -2, -1, 1]),
        count=st.sampled_from([1, 2, 3, 0]),
        end=st.one_of(st.none(), st.none(), st.none(), st.none(), ENDS),
        times=LOST,
    )
    def append(self, data: st.DataObject, shift: int, count: int, end: Terminal | None, times: int) -> None:
        self._append(self._any_claim(data), shift, count, end, times)

    def _append(self, claim: Claim, shift: int, count: int, end: Terminal | None, times: int = 1) -> None:
        each = self.model.requests.get(claim.request.id)
        first_seq = max(1, (len(each.tokens) if each else 0) + 1 + shift)
        # A token shows who made it, so that one of an older epoch would be seen.
        deltas = tuple(TokenDelta(claim.epoch * 1000 + seq, str(seq)) for seq in range(first_seq, first_seq + count))
        entry = AppendEntry(claim.request.id, claim.epoch, first_seq, deltas, end)
        for _ in range(times):
            assert self.run(self.ledger.append([entry])) == [self.model.append(entry, self.now_s)]

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), end=ENDS, times=LOST)
    def finish(self, data: st.DataObject, end: Terminal, times: int) -> None:
        claim = self._any_claim(data)
        for _ in range(times):
            each = self.model.requests.get(claim.request.id)
            entry = AppendEntry(claim.request.id, claim.epoch, len(each.tokens) + 1 if each else 1, end=end)
            result = self.run(self.ledger.finish(claim.request.id, claim.epoch, end))
            assert result == self.model.append(entry, self.now_s)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), how=st.sampled_from(ReleaseHow), times=LOST)
    def release(self, data: st.DataObject, how: ReleaseHow, times: int) -> None:
        claim = self._any_claim(data)
        for _ in range(times):
            result = self.run(self.ledger.release(claim.request.id, claim.epoch, how, "because"))
            assert result.outcome is self.model.release(claim.request.id, claim.epoch, how, self.now_s)

    @precondition(lambda self: self.model.of_state("running"))
    @rule(data=st.data(), times=LOST)
    def leave(self, data: st.DataObject, times: int) -> None:
        worker = data.draw(st.sampled_from(sorted(self.model.leases)))
        for _ in range(times):
            self.run(self.ledger.leave(worker))
            self.model.lose(worker, self.now_s)

    @precondition(lambda self: self.model.of_state("queued"))
    @rule(names=st.lists(WORKERS, min_size=2, max_size=4), seq_shift=st.sampled_from([0, -1]))
    def crash_in_a_row(self, names: list[str], seq_shift: int) -> None:
        """Worker after worker claims, writes a little and dies; all of them then write on as zombies."""
        before = len(self.claims)
        for name in names:
            self.claim(name, "m", 4, zombie=False)
            for claim in self.claims[before:]:
                self._append(claim, seq_shift, 2, None)
            self.run(self.ledger.leave(self.worker(name)))
            self.model.lose(self.worker(name), self.now_s)

    def _any_claim(self, data: st.DataObject) -> Claim:
        """Mostly one that is still good, else any that ever was."""
        good = [each for each in self.claims if self._is_good(each)]
        wants_good = data.draw(st.sampled_from([True, True, True, False]))
        return data.draw(st.sampled_from(good if good and wants_good else self.claims))

    def _is_good(self, claim: Claim) -> bool:
        each = self.model.requests.get(claim.request.id)
        return each is not None and each.state == "running" and each.epoch == claim.epoch

    # Time.

    @precondition(lambda self: self.submitted)
    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 6.0, 25.0]))
    def pass_time(self, seconds: float) -> None:
        self.settle()
        self.now_s += seconds
        self.settle()
        if any(until <= self.now_s for _, until in self.model.buried.values()):
            # Ledgers differ in whether a tombstone stands until somebody reaps.
            self.reap()

    @precondition(lambda self: self.submitted)
    @rule()
    def reap(self) -> None:
        self.run(self.ledger.reap())
        self.model.reap(self.now_s, self.wall_ms())

    # What must hold at all times.

    @invariant()
    def every_request_is_as_the_model_says(self) -> None:
        for request_id, each in self.model.requests.items():
            info = self.run(self.ledger.info(request_id))
            assert (info.state, info.epoch) == (each.state, each.epoch)
            assert (info.attempt, info.last_seq) == (each.attempt, each.last_seq)
            log = self.run(self.ledger.read(request_id))
            assert list(log.deltas) == each.tokens
            assert kind_of(log.end) == each.end_kind
            assert each.end is None or log.end == each.end

    @invariant()
    def what_is_gone_is_gone(self) -> None:
        for request_id in self.model.buried:
            with pytest.raises(errors.Expired):
                self.run(self.ledger.info(request_id))
        for request in self.submitted:
            if request.id not in self.model.requests and request.id not in self.model.buried:
                with pytest.raises(errors.NotFound):
                    self.run(self.ledger.info(request.id))

    @invariant()
    def the_counts_are_right(self) -> None:
        statistics = self.run(self.ledger.statistics())
        model = self.model
        assert statistics.queued == len(model.of_state("queued"))
        assert statistics.running == len(model.of_state("running"))
        assert statistics.ended == len(model.of_state("ended"))
        assert statistics.queued_bytes == 2 * statistics.queued
        assert statistics.log_tokens == sum(len(each.tokens) for each in model.requests.values())
        assert statistics.workers == len(model.leases)
        assert statistics.dead_letters == min(model.dead_letters, MACHINE_SETTINGS.dead_letters_kept)
        assert statistics.quarantined == sum(each.is_quarantined(model.settings) for each in model.requests.values())
        assert statistics.accepted_total == model.accepted

    @invariant()
    def a_wait_can_be_foretold(self) -> None:
        for priority in (0, 1, 2):
            request = GenerateRequest("new", "m", "hi", tenant="a", priority=priority)
            expected_s = self.run(self.ledger.expected_wait_s(request))
            assert expected_s >= 0
            assert not expected_s or any(each.request.model == "m" for each in self.model.of_state("queued"))

    @invariant()
    def each_reader_gets_each_entry_once(self) -> None:
        self.settle()
        for reading in self.readings:
            self.do(reading.take)
            each = self.model.requests.get(reading.request_id)
            if each is not None and not reading.outlived:
                assert reading.tokens == each.tokens
                assert len(reading.ends) == (each.state == "ended")

    def teardown(self) -> None:
        """Whatever happened, everything can be ended, exactly once, and leaves nothing behind."""
        for reading in self.readings:
            self.do(reading.close)
        for request_id, each in self.model.requests.items():
            self.run(self.ledger.cancel(request_id))
            assert self.run(self.ledger.info(request_id)).last_seq == len(each.tokens) + 1
        statistics = self.run(self.ledger.statistics())
        assert statistics.accepted_total == statistics.ended_total
        settings = MACHINE_SETTINGS
        for seconds in (max(settings.lease_s, settings.retention_s), settings.tombstone_s):
            self.now_s += seconds
            self.run(self.ledger.reap())
        self.check_empty()

    def check_empty(self) -> None:
        """For a ledger whose inside can be seen: it has forgotten everything but dead letters and dead workers."""
