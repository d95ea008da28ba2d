"""A ledger beside `LedgerModel`, and the invariants that must hold after each step of the state machine."""

# ruff: noqa: S101

from abc import abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant
from msgspec.structs import astuple

from llmactors import errors
from llmactors.ledger import Claim, Ledger, LedgerSettings, UsageBy, UsageTotal
from llmactors.ledger.core.usage import counts_of
from llmactors.messages import GenerateRequest
from llmactors.testing.ledger_suite.model import LedgerModel, kind_of
from llmactors.testing.ledger_suite.reader_state import ReaderState
from llmactors.testing.ledger_suite.rig import run_sync

T = TypeVar("T")

MACHINE_SETTINGS = LedgerSettings(
    affinity_lead_max=4,
    max_queued=6,
    lease_s=5.0,
    retention_s=20.0,
    longest_read_s=30.0,
    tombstone_s=30.0,
    suspects_together=(2,),
    conversation_kept_s=1e5,
    preempt_after_s=0.875,
    progress_tokens=3,
    affinity_wait_s=0.25,
    preemptions_max=2,
)


class LedgerComparison(RuleBasedStateMachine):
    """The ledger, the model, their time, and the invariants. `LedgerMachine` adds the rules."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0
        self.ledger = self.make_ledger(MACHINE_SETTINGS)
        self.model = self.make_model(MACHINE_SETTINGS)
        self.incarnations = {"w1": 0, "w2": 0, "w3": 0}
        self.claims: list[Claim] = []
        self.readers: list[ReaderState] = []
        self.submitted: list[GenerateRequest] = []

    @abstractmethod
    def make_ledger(self, settings: LedgerSettings) -> Ledger:
        """Makes a fresh ledger, whose clocks are `self.now` and `self.wall_ms`."""

    def make_model(self, settings: LedgerSettings) -> LedgerModel:
        """Makes the model of the ledger."""
        return LedgerModel(settings)

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
        return f"{name}#{self.incarnations[name]}"

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
        assert statistics.quarantined == sum(each.is_quarantined for each in model.requests.values())
        assert statistics.accepted_total == model.accepted

    @invariant()
    def operators_see_what_waits_and_what_is_dead(self) -> None:
        assert self.run(self.ledger.queue_depths()) == self.model.queue_depths()
        letters = self.run(self.ledger.dead_letters())
        assert [letter.request for letter in letters] == list(self.model.dead_letters)

    @invariant()
    def each_ended_request_has_one_usage_record(self) -> None:
        page = self.run(self.ledger.usage_records(0, self.wall_ms() + 1))
        assert sorted(map(astuple, page.records)) == sorted(map(astuple, self.model.usage))

    @invariant()
    def expected_wait_needs_a_queue(self) -> None:
        for priority in (0, 1, 2):
            request = GenerateRequest("new", "m", "hi", tenant="a", priority=priority)
            expected_s = self.run(self.ledger.expected_wait_s(request))
            assert expected_s >= 0
            assert not expected_s or any(each.request.model == "m" for each in self.model.of_state("queued"))

    @invariant()
    def each_waiting_request_has_a_place_among_those_of_its_model(self) -> None:
        ids = list(self.model.requests)
        waiting = {each.request.id: each.request.model for each in self.model.of_state("queued")}
        found = dict(zip(ids, self.run(self.ledger.places(ids)), strict=True))
        assert {request_id for request_id, place in found.items() if place is not None} == set(waiting)
        for request_id, model in waiting.items():
            place = found[request_id]
            assert place is not None
            assert place.model == model
            assert 1 <= place.place <= list(waiting.values()).count(model)

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
            if each.state != "ended":
                self.model.close(each, "cancelled", self.now_s)
        statistics = self.run(self.ledger.statistics())
        assert statistics.accepted_total == statistics.ended_total == len(self.model.usage)
        self.each_ended_request_has_one_usage_record()
        for by in UsageBy:
            report = self.run(self.ledger.usage_report(0, self.wall_ms() + 1, by))
            counts = (counts_of(each, failed=each.code.isupper()) for each in self.model.usage)
            assert report.total == sum(counts, UsageTotal())
        settings = MACHINE_SETTINGS
        for seconds in (max(settings.lease_s, settings.retention_s), settings.tombstone_s):
            self.now_s += seconds
            self.run(self.ledger.reap())
        self.check_empty()

    def check_empty(self) -> None:
        """Override this to check that a ledger has forgotten everything but dead letters and dead workers."""
