"""A Hypothesis state machine that does the same operations on a ledger and on `LedgerModel`.

Workers claim, write, crash, drain, and write with claims that are out of date. Any answer may be lost, so that the
operation is repeated. Readers come and go, and time passes. After each step the ledger and the model must agree about
every request. A subclass implements `make_ledger`. A ledger whose operations wait for something overrides `run` too.
"""

# ruff: noqa: S101

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from llmactors import errors
from llmactors.ledger import AppendEntry, Claim, ReleaseHow, SlotOffer, SubmitOutcome
from llmactors.messages import Failed, Finished, GenerateRequest, Terminal, TokenDelta, Usage
from llmactors.prices import Price
from llmactors.testing.ledger_suite.comparison import LedgerComparison
from llmactors.testing.ledger_suite.model import requeued
from llmactors.testing.ledger_suite.reader_state import ReaderState
from llmactors.testing.ledger_suite.rig import extra_of

WORKERS = st.sampled_from(["w1", "w2", "w3"])
MODELS = st.sampled_from(["m", "m", "m", "n"])
LOST = st.sampled_from([1, 1, 1, 2])
"""How often an operation is done: twice if its first answer was lost."""

ENDS: st.SearchStrategy[Terminal] = st.sampled_from(
    [
        Finished("stop", Usage(1, 1)),
        Finished("length", Usage(9, 9, 4)),
        Failed("INTERRUPTED", "gone"),
        Failed("INTERRUPTED", "gone", Usage(2, 0, 1)),
    ],
)


class LedgerMachine(LedgerComparison):
    """All rules. A subclass tests one ledger."""

    hands_out = False
    """Whether workers leave the slots open for which they find nothing."""
    notices_in_parts = False
    """Whether parts of the ledger notice by themselves that a lease has ended. Then time passes only with a `reap`,
    after which all parts have noticed.
    """

    def new_id(self, conversation: str = "") -> str:  # noqa: ARG002
        """The id of the next request."""
        return f"r{len(self.submitted)}"

    def follow_handed(self) -> None:
        """Has the model follow what the ledger has handed to workers. A ledger may do so when a request is queued."""

    @initialize(requests=st.integers(1, 4), slots=st.integers(1, 4), written=st.integers(0, 3))
    def begin(self, requests: int, slots: int, written: int) -> None:
        """Begins with some running requests, which most rules need; Hypothesis leaves out some rules in each run."""
        for number in range(requests):
            tenant = "ab"[number % 2]
            self._submit(tenant=tenant)
        self.claim("w1", "m", slots, zombie=False)
        for claim in self.claims:
            self._append(claim, 0, written, None)

    # Gateways.

    @rule(
        tenant=st.sampled_from(["a", "b"]),
        model=MODELS,
        priority=st.integers(0, 2),
        deadline_s=st.sampled_from([None, None, 0, 3, 12]),
        timeout_s=st.sampled_from([None, None, 0, 3, 12]),
        grace_s=st.sampled_from([4, 10_000, 10_000]),
        retention_s=st.sampled_from([None, None, 0, 5]),
        conversation=st.sampled_from(["", "c", "d"]),
        follows_up=st.booleans(),
        key_id=st.sampled_from(["", "k"]),
        price=st.sampled_from([None, Price.per_million(0.1, 0.4, 0.033)]),
        times=LOST,
    )
    def submit(
        self,
        *,
        tenant: str,
        model: str,
        priority: int,
        deadline_s: int | None,
        timeout_s: int | None,
        grace_s: int,
        retention_s: int | None,
        conversation: str,
        follows_up: bool,
        key_id: str,
        price: Price | None,
        times: int,
    ) -> None:
        request = GenerateRequest(
            id=self.new_id(conversation),
            model=model,
            prompt="hi",
            tenant=tenant,
            priority=priority,
            deadline_ms=None if deadline_s is None else self.wall_ms() + deadline_s * 1000,
            timeout_ms=None if timeout_s is None else timeout_s * 1000,
            resume_grace_ms=grace_s * 1000,
            retention_ms=None if retention_s is None else retention_s * 1000,
            conversation=conversation,
            follows_up=follows_up and bool(conversation),
            key_id=key_id,
            price=price,
        )
        self.submitted.append(request)
        for _ in range(times):
            assert self.run(self.ledger.submit(request)) is self.model.submit(request, self.now_s)
        self.follow_handed()

    @precondition(lambda self: self.submitted)
    @rule(data=st.data(), prompt=st.sampled_from(["hi", "ho"]))
    def submit_again(self, data: st.DataObject, prompt: str) -> None:
        first = data.draw(st.sampled_from(self.submitted))
        again = attrs.evolve(first, prompt=prompt)
        outcome = self.model.submit(again, self.now_s)
        assert self.run(self.ledger.submit(again)) is outcome
        if outcome is SubmitOutcome.ACCEPTED:
            # The ledger had forgotten the first request. Readers that have it open read the log of the old request.
            for reader in self.readers:
                reader.outlived |= reader.request_id == first.id
        self.follow_handed()

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
    def forget(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.model.requests)))
        self.run(self.ledger.forget(request_id))
        self.model.forget(request_id, self.now_s)
        with pytest.raises(errors.Expired):
            self.run(self.ledger.forget(request_id))

    @precondition(lambda self: self.model.requests)
    @rule(data=st.data())
    def open_reader(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.model.requests)))
        follower = self.run(self.ledger.follow(request_id))
        self.do(follower.__enter__)
        self.model.requests[request_id].readers += 1
        self.model.requests[request_id].read_at = self.now_s
        self.readers.append(ReaderState(request_id, follower))

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def close_reader(self, data: st.DataObject) -> None:
        reader = self.readers.pop(data.draw(st.integers(0, len(self.readers) - 1)))
        self.do(reader.close)
        if (each := self.model.requests.get(reader.request_id)) is not None and not reader.outlived:
            each.readers -= 1
            each.unread_since = each.read_at = self.now_s

    # Workers.

    @rule(name=WORKERS, times=LOST)
    def beat(self, name: str, times: int) -> None:
        worker = self.worker(name)
        for _ in range(times):
            held = {(each.request.id, each.epoch) for each in self.model.held_by(worker)}
            result = self.run(self.ledger.beat(worker))
            assert result.live is self.model.beat(worker, self.now_s)
            assert not held.intersection(result.stop), "told to stop what it should run"
        self.follow_handed()

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
        claims = self.run(self.ledger.claim(worker, model, slots, hand_out=slots if self.hands_out else 0))
        assert len(claims) <= slots
        assert live or not claims
        self.model.claim(worker, model, slots, claims, self.now_s, self.wall_ms())
        self.claims += claims
        for each in self.model.of_state("queued"):
            # The ledger may end an overdue request while it looks for work.
            if each.is_overdue(self.wall_ms()) and self.run(self.ledger.info(each.request.id)).state == "ended":
                self.model.close(each, "DEADLINE_EXCEEDED", self.now_s)
        if live and len(claims) < slots:
            assert self.model.may_be_left_waiting(worker, model, claims, self.wall_ms())
        self.follow_handed()

    @precondition(lambda self: self.model.of_state("queued") and self.model.of_state("running"))
    @rule(data=st.data(), name=WORKERS)
    def preempt(self, data: st.DataObject, name: str) -> None:
        self._preempt(data, name)

    def _preempt(self, data: st.DataObject, name: str) -> None:
        """Offers some claims, mostly those of the worker, in place of a waiting request."""
        worker = self.worker(name)
        held = {(each.request.id, each.epoch) for each in self.model.held_by(worker)}
        own = [claim for claim in self.claims if (claim.request.id, claim.epoch) in held] or self.claims
        if not own:
            return
        offered = data.draw(st.lists(st.sampled_from(own), unique_by=lambda claim: claim.request.id, max_size=4))
        offers = [SlotOffer(claim.request.id, claim.epoch, data.draw(st.sampled_from([64, 2, 0]))) for claim in offered]
        live = bool(offers) and self.model.is_live(worker, self.now_s)  # without an offer nothing is looked at
        swap = self.run(self.ledger.preempt(worker, "m", offers))
        assert live or swap is None
        if swap is None:
            assert not live or not self.model.must_preempt(worker, "m", offers, self.now_s, self.wall_ms())
        else:
            self.model.preempt(worker, swap, offers, self.now_s, self.wall_ms())
            self.claims.append(swap.claim)
        self.follow_handed()

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
        seqs = range(first_seq, first_seq + count)
        deltas = tuple(TokenDelta(claim.epoch * 1000 + seq, str(seq), extra_of(seq)) for seq in seqs)
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
            self.follow_handed()

    @precondition(lambda self: self.model.of_state("running"))
    @rule(data=st.data(), times=LOST)
    def leave(self, data: st.DataObject, times: int) -> None:
        worker = data.draw(st.sampled_from(sorted(self.model.leases)))
        for _ in range(times):
            self.run(self.ledger.leave(worker))
            self.model.lose(worker, self.now_s)
            self.follow_handed()

    @rule(name=WORKERS, times=LOST)
    def come_back_as_new_incarnation(self, name: str, times: int) -> None:
        """The worker's process was replaced, and its old incarnation never beats again, or only too late."""
        self.incarnations[name] += 1
        self.beat(name, times)

    @rule(data=st.data(), name=WORKERS)
    def beat_after_the_end(self, data: st.DataObject, name: str) -> None:
        """A worker that was stopped goes on, and does not know yet that its lease was lost."""
        worker = f"{name}#{data.draw(st.integers(0, self.incarnations[name]))}"
        if worker in self.model.dead:
            assert not self.run(self.ledger.beat(worker)).live
            self.model.take_back(worker)
            self.follow_handed()

    @precondition(lambda self: self.model.of_state("running"))
    @rule(pauses=st.lists(st.tuples(WORKERS, st.sampled_from([2.0, 2.625, 6.0])), min_size=1, max_size=4))
    def stop_while_another_beats(self, pauses: list[tuple[str, float]]) -> None:
        """Time passes, and only one worker beats meanwhile."""
        for name, seconds in pauses:
            self.pass_time(seconds)
            self.beat(name, 1)
            self.reap()

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
            self.follow_handed()

    @rule(names=st.lists(WORKERS, min_size=2, max_size=4), slots=st.sampled_from([2, 4, 8]), turns=st.integers(1, 2))
    def talk(self, names: list[str], slots: int, turns: int) -> None:
        """Requests of one conversation come, and several workers claim."""
        for name in names:
            for _ in range(turns):
                self._submit(conversation="c", follows_up=True)
            self.claim(name, "m", slots, zombie=False)

    @rule(data=st.data(), name=WORKERS, given=st.integers(1, 3), urgent=st.integers(1, 2))
    def wait_in_a_full_house(self, data: st.DataObject, name: str, given: int, urgent: int) -> None:
        """Urgent requests wait while a worker runs less urgent ones, and the worker asks several times."""
        for _ in range(given):
            self._submit(priority=2)
        self.claim(name, "m", 8, zombie=False)
        for _ in range(urgent):
            self._submit(priority=0)
        for seconds in (1.0, 0.125, 0.25):
            self.pass_time(seconds)
            self._preempt(data, name)

    def _submit(
        self, *, tenant: str = "a", priority: int = 1, conversation: str = "", follows_up: bool = False
    ) -> None:
        """Submits a request of no special kind."""
        self.submit(
            tenant=tenant,
            model="m",
            priority=priority,
            deadline_s=None,
            timeout_s=None,
            grace_s=10_000,
            retention_s=None,
            conversation=conversation,
            follows_up=follows_up,
            key_id="",
            price=None,
            times=1,
        )

    # Operators.

    @precondition(lambda self: self.model.dead_letters)
    @rule(data=st.data(), times=LOST)
    def requeue(self, data: st.DataObject, times: int) -> None:
        dead = data.draw(st.sampled_from(list(self.model.dead_letters)))
        new_id = self.new_id()
        self.submitted.append(requeued(dead, new_id))
        for _ in range(times):
            assert self.run(self.ledger.requeue(dead.id, new_id)) is self.model.requeue(dead.id, new_id, self.now_s)
        self.follow_handed()

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
        if self.notices_in_parts or any(until <= self.now_s for _, until in self.model.buried.values()):
            # Some ledgers keep a tombstone until the next `reap`, and some do not.
            self.reap()

    @precondition(lambda self: self.submitted)
    @rule()
    def reap(self) -> None:
        self.run(self.ledger.reap())
        self.model.reap(self.now_s, self.wall_ms())
        self.follow_handed()
