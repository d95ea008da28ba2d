"""A Hypothesis state machine that does the same operations on a ledger and on `LedgerModel`.

Workers claim, write, crash, drain, and write with claims that are out of date. Any answer may be lost, so that the
operation is repeated. Readers come and go, and time passes. After each step the ledger and the model must agree about
every request. A subclass implements `make_ledger`. A ledger whose operations wait for something overrides `run` too.
"""

# ruff: noqa: S101

from abc import abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llmactors import errors
from llmactors.ledger import AppendEntry, Claim, Ledger, LedgerSettings, ReleaseHow, SubmitOutcome
from llmactors.messages import Failed, Finished, GenerateRequest, Terminal, TokenDelta, Usage
from llmactors.testing.ledger_suite.model import LedgerModel, kind_of, requeued
from llmactors.testing.ledger_suite.reader_state import ReaderState
from llmactors.testing.ledger_suite.rig import run_sync

T = TypeVar("T")

MACHINE_SETTINGS = LedgerSettings(max_queued=6, lease_s=5.0, retention_s=20.0, tombstone_s=30.0, suspects_together=(2,))

WORKERS = st.sampled_from(["w1", "w2", "w3"])
MODELS = st.sampled_from(["m", "m", "m", "n"])
LOST = st.sampled_from([1, 1, 1, 2])
"""How often an operation is done: twice if its first answer was lost."""

ENDS: st.SearchStrategy[Terminal] = st.sampled_from(
    [Finished("stop", Usage(1, 1)), Finished("length", Usage(1, 9)), Failed("INTERRUPTED", "gone")],
)


class LedgerMachine(RuleBasedStateMachine):
    """All rules. A subclass tests one ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0
        self.ledger = self.make_ledger(MACHINE_SETTINGS)
        self.model = LedgerModel(MACHINE_SETTINGS)
        self.incarnations = {"w1": 0, "w2": 0, "w3": 0}
        self.claims: list[Claim] = []
        self.readers: list[ReaderState] = []
        self.submitted: list[GenerateRequest] = []

    @abstractmethod
    def make_ledger(self, settings: LedgerSettings) -> Ledger:
        """Makes a fresh ledger, whose clocks are `self.now` and `self.wall_ms`."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return run_sync(coroutine)

    def do(self, action: Callable[[], object]) -> None:
        """Runs an action of a reader that does not wait. Override this to run it in the ledger's event loop."""
        action()

    def settle(self) -> None:
        """Waits until all readers have all entries of their logs, and the ledger knows which readers are left."""

    def now(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return round(self.now_s * 1000)

    def worker(self, name: str) -> str:
        return f"{name}.{self.incarnations[name]}"

    @initialize(requests=st.integers(1, 4), slots=st.integers(1, 4), written=st.integers(0, 3))
    def begin(self, requests: int, slots: int, written: int) -> None:
        """Begins with some running requests, which most rules need; Hypothesis leaves out some rules in each run."""
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
            # The ledger had forgotten the first request. Readers that have it open read the log of the old request.
            for reader in self.readers:
                reader.outlived |= reader.request_id == first.id

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
        self.readers.append(ReaderState(request_id, follower))

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def close_reader(self, data: st.DataObject) -> None:
        reader = self.readers.pop(data.draw(st.integers(0, len(self.readers) - 1)))
        self.do(reader.close)
        if (each := self.model.requests.get(reader.request_id)) is not None and not reader.outlived:
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
        """Claims, mostly for a worker with a valid lease; a dead worker returns as a new incarnation."""
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
            # The ledger may end an overdue request while it looks for work.
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
        # The number of a token contains its epoch, so that a token of an older epoch is noticed.
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
        """Several workers in a row claim, write a little and are lost."""
        before = len(self.claims)
        for name in names:
            self.claim(name, "m", 4, zombie=False)
            for claim in self.claims[before:]:
                self._append(claim, seq_shift, 2, None)
            self.run(self.ledger.leave(self.worker(name)))
            self.model.lose(self.worker(name), self.now_s)

    # Operators.

    @precondition(lambda self: self.model.dead_letters)
    @rule(data=st.data(), times=LOST)
    def requeue(self, data: st.DataObject, times: int) -> None:
        dead = data.draw(st.sampled_from(list(self.model.dead_letters)))
        new_id = f"r{len(self.submitted)}"
        self.submitted.append(requeued(dead, new_id))
        for _ in range(times):
            assert self.run(self.ledger.requeue(dead.id, new_id)) is self.model.requeue(dead.id, new_id, self.now_s)

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def requeue_what_is_not_dead(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(self.submitted)).id
        if request_id not in {each.id for each in self.model.dead_letters}:
            with pytest.raises(errors.NotFound):
                self.run(self.ledger.requeue(request_id, "new"))

    @precondition(lambda self: self.model.dead_letters)
    @rule(data=st.data(), times=LOST)
    def purge(self, data: st.DataObject, times: int) -> None:
        ids = [each.id for each in self.model.dead_letters]
        purged = data.draw(st.sampled_from([None, *ids]))
        for _ in range(times):
            assert self.run(self.ledger.purge(purged)) == self.model.purge(purged)

    def _any_claim(self, data: st.DataObject) -> Claim:
        """A claim: mostly a valid one, else any that was ever made."""
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
            # Some ledgers keep a tombstone until the next `reap`, and some do not.
            self.reap()

    @precondition(lambda self: self.submitted)
    @rule()
    def reap(self) -> None:
        self.run(self.ledger.reap())
        self.model.reap(self.now_s, self.wall_ms())

    # Invariants.

    @invariant()
    def every_request_matches_the_model(self) -> None:
        for request_id, each in self.model.requests.items():
            info = self.run(self.ledger.info(request_id))
            assert (info.state, info.epoch) == (each.state, each.epoch)
            assert (info.attempt, info.last_seq) == (each.attempt, each.last_seq)
            log = self.run(self.ledger.read(request_id))
            assert list(log.deltas) == each.tokens
            assert kind_of(log.end) == each.end_kind
            assert each.end is None or log.end == each.end

    @invariant()
    def expired_requests_stay_expired(self) -> None:
        for request_id in self.model.buried:
            with pytest.raises(errors.Expired):
                self.run(self.ledger.info(request_id))
        for request in self.submitted:
            if request.id not in self.model.requests and request.id not in self.model.buried:
                with pytest.raises(errors.NotFound):
                    self.run(self.ledger.info(request.id))

    @invariant()
    def statistics_match_the_model(self) -> None:
        statistics = self.run(self.ledger.statistics())
        model = self.model
        assert statistics.queued == len(model.of_state("queued"))
        assert statistics.running == len(model.of_state("running"))
        assert statistics.ended == len(model.of_state("ended"))
        assert statistics.queued_bytes == 2 * statistics.queued
        assert statistics.log_tokens == sum(len(each.tokens) for each in model.requests.values())
        assert statistics.workers == len(model.leases)
        assert statistics.dead_letters == len(model.dead_letters)
        assert statistics.quarantined == sum(each.is_quarantined(model.settings) for each in model.requests.values())
        assert statistics.accepted_total == model.accepted

    @invariant()
    def operators_see_what_waits_and_what_is_dead(self) -> None:
        assert self.run(self.ledger.queue_depths()) == self.model.queue_depths()
        letters = self.run(self.ledger.dead_letters())
        assert [letter.request for letter in letters] == list(self.model.dead_letters)

    @invariant()
    def expected_wait_needs_a_queue(self) -> None:
        for priority in (0, 1, 2):
            request = GenerateRequest("new", "m", "hi", tenant="a", priority=priority)
            expected_s = self.run(self.ledger.expected_wait_s(request))
            assert expected_s >= 0
            assert not expected_s or any(each.request.model == "m" for each in self.model.of_state("queued"))

    @invariant()
    def each_reader_gets_each_entry_once(self) -> None:
        self.settle()
        for reader in self.readers:
            self.do(reader.take)
            each = self.model.requests.get(reader.request_id)
            if each is not None and not reader.outlived:
                assert reader.tokens == each.tokens
                assert len(reader.ends) == (each.state == "ended")

    def teardown(self) -> None:
        """Ends every request, and checks that each ended once and that the ledger forgets everything."""
        for reader in self.readers:
            self.do(reader.close)
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
        """Override this to check that a ledger has forgotten everything but dead letters and dead workers."""
