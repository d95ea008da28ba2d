"""Redis goes back to an older state, as after a failover, or after a crash with `appendfsync everysec`.

Whatever was forgotten, each request that a gateway admitted ends once for its readers, who see no token twice and none
changed. What the readers and the workers know mends the log. Where the words cannot be had again, the stream says so.
"""

from collections.abc import Callable
from typing import ClassVar

import attrs
import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from llmactors.ledger import AppendEntry, AppendOutcome, Follower, LedgerSettings
from llmactors.ledger.redis import RedisLedger, RedisLedgerSettings
from llmactors.ledger.redis.log_copies import DIVERGED
from llmactors.messages import Finished, GenerateRequest, Terminal, TokenDelta, Usage
from llmactors.redislink.settings import LinkSettings
from llmactors.testing.ledger_suite.rig import extra_of
from llmactors.testing.redis_server import RedisServer
from llmactors.testing.trio_thread import TrioThread

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

LENGTH = 6
LEDGER = LedgerSettings(lease_s=1000.0, retention_s=1e6, quarantine_from_attempt=1000)
STILL = RedisLedgerSettings(
    outage_s=1e6, gateway_lease_s=1e5, silence_s=3600.0, disconnect_grace_s=1e5, call_timeout_s=20.0
)
"""Nothing happens by itself: the machine says when logs are read and which worker beats."""

QUICK = LinkSettings(backoff_min_s=0.002, backoff_max_s=0.01)

State = dict[bytes, tuple[bytes, int]]


class Reader:
    """An open stream, and all entries that its client has got: these cannot be taken back."""

    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        self.tokens: list[TokenDelta] = []
        self.end: Terminal | None = None

    def open(self) -> None:
        self.follower.__enter__()

    def take(self) -> None:
        before = self.follower.cursor
        taken = self.follower.take()
        if self.end is not None:
            assert not taken.deltas
            assert taken.end is None, "a second terminal event"
            return
        assert taken.first_seq == before + 1
        self.tokens += taken.deltas
        self.end = taken.end


@attrs.define
class Hand:
    """What one worker knows of one claim."""

    epoch: int
    tokens: list[TokenDelta]


class ForgettingMachine(RuleBasedStateMachine):
    server: ClassVar[RedisServer]
    sampled: ClassVar[bool]
    """Whether a token that is generated again is a different token."""

    def __init__(self) -> None:
        super().__init__()
        with self.server.client() as client:
            client.flushall()
        self.thread = TrioThread()
        self.thread.__enter__()
        self.now_ms = 1_750_000_000_000
        self.gateways = [self._ledger() for _ in range(2)]
        self.worker_ledgers = {name: self._ledger() for name in ("w1", "w2")}
        self.hands: dict[str, dict[str, Hand]] = {"w1": {}, "w2": {}}
        self.incarnations = {"w1": 0, "w2": 0}
        self.readers: dict[str, Reader] = {}
        self.older: State | None = None
        self.losses = 0
        self.made = 0

    def _ledger(self) -> RedisLedger:
        ledger = RedisLedger(self.server.url, LEDGER, STILL, link_settings=QUICK, clock_ms=lambda: self.now_ms)
        self.thread.serve(ledger.run)
        return ledger

    def do(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()

        self.thread.run(act())

    @initialize(requests=st.integers(1, 3), steps=st.integers(0, 3))
    def begin(self, requests: int, steps: int) -> None:
        for _ in range(requests):
            self.submit(0)
        self.claim("w1", 4)
        for _ in range(steps):
            self.step("w1", 1)

    @rule(gateway=st.integers(0, 1))
    def submit(self, gateway: int) -> None:
        request = GenerateRequest(f"r{len(self.readers)}", "m", "hi", max_tokens=LENGTH, resume_grace_ms=10**7)
        ledger = self.gateways[gateway]
        self.thread.run(ledger.submit(request))
        reader = Reader(self.thread.run(ledger.follow(request.id)))
        self.do(reader.open)
        self.readers[request.id] = reader

    @rule(worker=st.sampled_from(["w1", "w2"]), slots=st.integers(1, 4))
    def claim(self, worker: str, slots: int) -> None:
        ledger = self.worker_ledgers[worker]
        name = f"{worker}.{self.incarnations[worker]}"
        result = self.thread.run(ledger.beat(name))
        if not result.live:
            self.incarnations[worker] += 1
            self.hands[worker].clear()
            return
        for claim in self.thread.run(ledger.claim(name, "m", slots)):
            self.hands[worker][claim.request.id] = Hand(claim.epoch, list(claim.tokens))

    @rule(worker=st.sampled_from(["w1", "w2"]), count=st.integers(1, 3))
    def step(self, worker: str, count: int) -> None:
        """Each claimed request gets some more tokens, and its end once it has all of them."""
        for request_id, hand in list(self.hands[worker].items()):
            first = len(hand.tokens) + 1
            for seq in range(first, min(first + count, LENGTH + 1)):
                self.made += 1
                hand.tokens.append(TokenDelta(self.made if self.sampled else seq, f"t{seq}", extra_of(seq)))
            self._append(worker, request_id, hand, first)

    def _append(self, worker: str, request_id: str, hand: Hand, first: int) -> None:
        end = Finished("length", Usage(1, LENGTH)) if len(hand.tokens) == LENGTH else None
        entry = AppendEntry(request_id, hand.epoch, first, tuple(hand.tokens[first - 1 :]), end)
        [result] = self.thread.run(self.worker_ledgers[worker].append([entry]))
        if result.outcome is AppendOutcome.GAP:
            event("a worker fills a gap")
            self._append(worker, request_id, hand, result.next_seq)
        elif result.outcome is not AppendOutcome.OK or end is not None:
            del self.hands[worker][request_id]

    @rule(worker=st.sampled_from(["w1", "w2"]))
    def die(self, worker: str) -> None:
        self.thread.run(self.worker_ledgers[worker].leave(f"{worker}.{self.incarnations[worker]}"))
        self.incarnations[worker] += 1
        self.hands[worker].clear()

    @rule()
    def remember(self) -> None:
        """Saves the state that `forget` goes back to."""
        with self.server.client() as client:
            names = list(client.scan_iter())
            self.older = {name: (client.dump(name), max(0, client.pttl(name))) for name in names}

    @precondition(lambda self: self.older is not None)
    @rule()
    def forget(self) -> None:
        assert self.older is not None
        with self.server.client() as client:
            # In one transaction: a reader of logs writes keys again as soon as it sees that they are gone.
            with client.pipeline(transaction=True) as loss:
                loss.flushall()
                for name, (value, ttl_ms) in self.older.items():
                    loss.restore(name, ttl_ms, value)
                loss.execute()
            before = {id(each): each.link.statistics().connects for each in self._ledgers()}
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub", skipme=True)
        self.losses += 1
        for each in self._ledgers():
            self.thread.run(_reconnected(each, before[id(each)]))

    @rule(gateway=st.integers(0, 1))
    def read_again(self, gateway: int) -> None:
        self.thread.run(self.gateways[gateway].log_reader.sync())

    @rule()
    def look(self) -> None:
        for reader in self.readers.values():
            self.do(reader.take)

    def teardown(self) -> None:
        try:
            self._go_on_until_all_have_ended()
            for request_id, reader in self.readers.items():
                self._check(request_id, reader)
        finally:
            self.thread.__exit__()

    def _go_on_until_all_have_ended(self) -> None:
        for _ in range(40):
            self.look()
            if all(reader.end is not None for reader in self.readers.values()):
                return
            # A worker that died, and is remembered as alive, loses its lease.
            self.now_ms += 400_000
            for gateway in (0, 1):
                self.read_again(gateway)
                self.thread.run(self.gateways[gateway].reap())
            for worker in ("w1", "w2"):
                self.claim(worker, 4)
                self.step(worker, 3)
        raise AssertionError(f"not ended: {[name for name, reader in self.readers.items() if reader.end is None]}")

    def _check(self, request_id: str, reader: Reader) -> None:
        if reader.end == DIVERGED:
            event("diverged, and said so")
            assert self.sampled, f"{request_id} diverged, though the same tokens were made again"
            assert self.losses
            return
        assert reader.end == Finished("length", Usage(1, LENGTH))
        assert [delta.text for delta in reader.tokens] == [f"t{seq}" for seq in range(1, LENGTH + 1)]

    def _ledgers(self) -> list[RedisLedger]:
        return [*self.gateways, *self.worker_ledgers.values()]


async def _reconnected(ledger: RedisLedger, connects: int) -> None:
    while ledger.link.statistics().connects == connects:
        await ledger.link.wait_up()


@pytest.mark.parametrize("sampled", [False, True])
def test_each_stream_ends_once_whatever_redis_forgets(any_server: RedisServer, sampled: bool) -> None:
    ForgettingMachine.server, ForgettingMachine.sampled = any_server, sampled
    run_state_machine_as_test(
        ForgettingMachine,
        settings=settings(
            max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
