"""The state machines of the ledgers, for a ledger over several shards: what holds there in place of exact answers.

Everything that is about one request is as on one server: its state, log, attempts, end, readers and usage, and all
sums. What is about several requests holds among those of one shard:

- the bound of the queue, the rate of preemptions, and which request gives its slot to which, are those of a shard;
- a turn of a conversation may wait for a worker by what its shard knows of the worker, which is a part of what the
  model knows, so that any turn may wait for `affinity_wait_s`, and no turn must;
- a request in quarantine is handed back where its worker has others, so the epoch of a waiting request may be higher;
- the slots of a worker that has handed a request back are closed on the shard of that request;
- dead letters of one moment have no order.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar, cast

from hypothesis.stateful import invariant
from trio.testing import MockClock, wait_all_tasks_blocked

from llmactors.ledger import AppendOutcome, Claim, Ledger, LedgerSettings, ReleaseHow
from llmactors.ledger.sharded import Placement, ShardedLedger, ShardLedger
from llmactors.ledger.sharded.placement import SLOTS
from llmactors.testing.ledger_suite.limit_machine import LimitMachine
from llmactors.testing.ledger_suite.machine import LedgerMachine
from llmactors.testing.ledger_suite.model import LedgerModel, ModelRequest
from llmactors.testing.trio_thread import TrioThread

T = TypeVar("T")

SHARDS = 3
PATIENCE_S = 60.0
"""So that no shard counts as away where the machine is slow."""
_ANOTHER = "any other worker"


class ShardedModel(LedgerModel):
    """A model whose requests wait on the shards of their ids."""

    def __init__(self, settings: LedgerSettings, placement: Placement) -> None:
        super().__init__(settings)
        self.placement = placement

    def queue_of(self, request_id: str) -> int:
        return self.placement.shard_of(request_id)

    def preferred(self, each: ModelRequest, worker: str, now: float) -> str | None:
        may_wait = each.request.follows_up and not each.quarantined
        return _ANOTHER if may_wait and now - each.queued_at < self.settings.affinity_wait_s else None

    def may_be_left_waiting(self, worker: str, model: str, claims: Sequence[Claim], wall_ms: float) -> bool:
        if self.held_by(worker):
            return super().may_be_left_waiting(worker, model, claims, wall_ms)
        # As on one server, but another worker may be reserved on each shard.
        left = [
            each for each in self.of_state("queued") if each.request.model == model and not each.is_overdue(wall_ms)
        ]
        left = [each for each in left if each.request.id not in self.preferring]
        others = [other for other in self.leases if other != worker]
        elsewhere = [each for each in self.of_state("queued") if each.request.model != model and each.is_quarantined]
        return (
            not left
            or bool(elsewhere)
            or (len(left) <= len(others) * SHARDS and all(each.is_quarantined for each in left))
        )

    def release(self, request_id: str, epoch: int, how: ReleaseHow, now: float) -> AppendOutcome:
        each = self.requests.get(request_id)
        place = ("", "") if each is None else (each.holder, each.request.model)
        room = self.room[place]
        outcome = super().release(request_id, epoch, how, now)
        self.room[place] = room
        return outcome

    def note_handed_back(self, each: ModelRequest, epoch: int, now: float) -> None:
        """Notes that a waiting request was claimed and handed back at once."""
        assert each.is_quarantined, "handed back without a reason"
        each.epoch = epoch
        each.queue_s += now - each.queued_at
        each.queued_at = now
        each.quarantined = each.crashed + 1 >= self.settings.quarantine_from_attempt


class OnShards:
    """Has a machine drive a ledger over the shards that `make_shards` makes."""

    now: Callable[[], float]
    clock_follows = True
    """Whether the time of the event loop passes as that of the ledger does. Otherwise the loop's time stands still."""

    def make_shards(self, settings: LedgerSettings) -> Sequence[ShardLedger]:
        """Makes fresh shards, which `self.thread` serves."""
        raise NotImplementedError

    def make_ledger(self, settings: LedgerSettings) -> Ledger:
        """`settings` are those of one shard."""
        self._clock = MockClock()
        self._clock_s = self.now()
        self.thread = TrioThread(self._clock)
        self.thread.__enter__()
        self.sharded = ShardedLedger(self.make_shards(settings), settings, patience_s=PATIENCE_S)
        self.thread.serve(self.sharded.run)
        return cast("Ledger", self.sharded)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        async def settled() -> T:
            if self.clock_follows and (passed_s := self.now() - self._clock_s):
                self._clock_s = self.now()
                self._clock.jump(passed_s)
            result = await coroutine
            await wait_all_tasks_blocked()
            return result

        return self.thread.run(settled())

    def do(self, action: Callable[[], object]) -> None:
        async def act() -> None:
            action()

        self.run(act())

    def queue_of(self, request_id: str) -> int:
        return self.sharded.placement.shard_of(request_id)

    def teardown(self) -> None:
        try:
            super().teardown()  # type: ignore[misc]
        finally:
            self.thread.__exit__()


class ShardedRules(LedgerMachine):
    """What differs on shards."""

    sharded: ShardedLedger

    notices_in_parts = True

    def make_model(self, settings: LedgerSettings) -> LedgerModel:
        return ShardedModel(settings, self.sharded.placement)

    def new_id(self, conversation: str = "") -> str:
        new = f"{len(self.submitted):030x}{len(self.submitted) * 7 % SLOTS:02x}"
        [placed] = self.sharded.placement.place([new], "a", at_home=False, conversation=conversation)
        return placed

    def follow_handed_back(self) -> None:
        """Has the model follow which requests were handed back."""
        # What the claim has begun to read of the queues has been read when this is answered, so that a run can be
        # repeated.
        self.run(self.sharded.queue_depths())
        model = cast("ShardedModel", self.model)
        for each in model.of_state("queued"):
            info = self.run(self.ledger.info(each.request.id))
            if info.state == "queued" and info.epoch > each.epoch:
                model.note_handed_back(each, info.epoch, self.now_s)

    @invariant()
    def operators_see_what_waits_and_what_is_dead(self) -> None:
        assert self.run(self.ledger.queue_depths()) == self.model.queue_depths()
        letters = self.run(self.ledger.dead_letters())
        dead = [each.id for each in self.model.dead_letters]
        assert sorted(letter.request.id for letter in letters) == sorted(dead)
        assert [letter.at_ms for letter in letters] == sorted(letter.at_ms for letter in letters)


class ShardedMachine(OnShards, ShardedRules):
    """All rules, on shards."""

    def follow_handed(self) -> None:
        self.follow_handed_back()


class ShardedLimitMachine(OnShards, LimitMachine):
    """All rules of limits, on shards: each request lives at the home of its tenant."""

    def new_ids(self, tenant: str, count: int) -> list[str]:
        first = len(self.spent)
        ids = [f"{number:030x}{number * 7 % SLOTS:02x}" for number in range(first, first + count)]
        return self.sharded.placement.place(ids, tenant, at_home=True)
