"""One run: a cluster, a constant load, whatever faults the test makes, and the verdict. And the sum of all runs."""

import contextlib
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence

import attrs
import redis
import trio

from llmactors.redislink.names import LedgerKey, RedisNames
from llmactors.testing.checker import CheckReport, check, gaps_at, percentiles
from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.history import Gap
from llmactors.testing.key_observer import LEFT_AT_REST, RedisKeys
from llmactors.testing.managed_process import poll_until
from llmactors.testing.nemeses import KillWorker, Nemesis, moments, strikes
from llmactors.testing.returning_clients import LoadSettings, StreamLoad

CLIENTS = 56
"""A few more than the fifty streams that are promised: some are between two requests."""
TOKENS = 40
"""0.8 s at a 20 ms step. Worker-losing faults are further apart than that, so that none convicts a request: the third
one that it was in the hands of would."""
NAMES = RedisNames("main")
_WORK = {
    LedgerKey.WAITING,
    LedgerKey.HEADS,
    LedgerKey.TAGS,
    LedgerKey.CLASSES,
    LedgerKey.HELD,
    LedgerKey.DEADLINES,
    LedgerKey.UNREAD,
}
"""Keys that are there only while a request waits or runs."""
_SETTLE_S = 25.0


@attrs.define
class Tally:
    """All runs together, as the end of the test run shows them."""

    seed: int
    minutes: float
    verdicts: list[CheckReport] = attrs.field(factory=list)
    gaps: dict[str, list[Gap]] = attrs.field(factory=dict)
    """What clients saw of faults of one kind that nothing else disturbed, by its name."""
    notes: list[str] = attrs.field(factory=list)
    problems: int = 0
    """Runs that left something behind, or wrote a traceback."""

    def lines(self) -> list[str]:
        """One block."""
        faults: Counter[str] = Counter()
        failures: Counter[str] = Counter()
        for verdict in self.verdicts:
            faults.update(verdict.strikes)
            failures.update(verdict.failures)

        def total(name: str) -> str:
            return f"{sum(getattr(verdict, name) for verdict in self.verdicts):,}"

        lines = [
            f"seed {self.seed}, {len(self.verdicts)} runs of {CLIENTS} streams at a 20 ms step",
            "faults: " + (", ".join(f"{count:,} {name}" for name, count in faults.most_common()) or "none"),
            f"requests {total('accepted')} accepted, {total('ended_once')} ended once · tokens {total('tokens')}",
            (
                f"lost requests {total('lost_requests')} · lost tokens {total('lost')} · "
                f"repeated {total('repeated')} · wrong {total('wrong')} · ended twice {total('second_ends')}"
            ),
            "explicit failures: " + (", ".join(f"{n:,} x {code}" for code, n in failures.most_common()) or "none"),
        ]
        for name, gaps in self.gaps.items():
            found = percentiles([gap.seconds for gap in gaps])
            figures = " · ".join(f"{which} {value:.2f} s" for which, value in found.items()) or "none"
            lines.append(f"gap where {name}: {figures} of {len(gaps):,}")
        return [*lines, *self.notes]


@attrs.define(eq=False)
class Run:
    """What a test has in hand while the load is on."""

    cluster: Cluster
    load: StreamLoad
    rng: random.Random
    budget_s: float
    """How long to go on with faults, in the long form; 0 in the short one."""
    nemeses: list[Nemesis] = attrs.field(factory=list)
    seen: CheckReport | None = None

    @property
    def verdict(self) -> CheckReport:
        """Once the run is over."""
        assert self.seen is not None
        return self.seen

    def add(self, *nemeses: Nemesis) -> None:
        """Has them counted."""
        self.nemeses.extend(nemeses)

    async def strike(self, plan: Sequence[tuple[Nemesis, int, float]]) -> None:
        """Each nemesis alone: its strikes, with about so many seconds after each. Again until the budget is spent."""
        self.add(*(nemesis for nemesis, _, _ in plan))
        began = time.monotonic()
        while True:
            for nemesis, times, pause_s in plan:
                for _ in range(times):
                    await nemesis.strike(random.Random(self.rng.getrandbits(64)))
                    await trio.sleep(pause_s * self.rng.uniform(0.8, 1.4))
            if time.monotonic() - began >= self.budget_s:
                return

    def counter(self, name: str) -> int:
        """One of the ledger's own counters."""
        with self.cluster.client() as client:
            return int(client.hget(NAMES.ledger(LedgerKey.COUNTERS), name) or 0)

    async def wait_flowing(self, *, within_s: float = 20.0) -> None:
        """Until each client got another token."""
        requests = {request.id: len(request.tokens) for request in self.load.history.requests if not request.ends}

        def all_went_on() -> bool:
            found = {each.id: each for each in self.load.history.requests if each.id in requests}
            return all(found[each].ends or len(found[each].tokens) > n for each, n in requests.items())

        with trio.fail_after(within_s):
            await poll_until(all_went_on)


@attrs.define(eq=False)
class Chaos:
    """Makes runs, and adds them up."""

    tally: Tally

    @property
    def is_long(self) -> bool:
        """Whether the run goes on for `--chaos-minutes`."""
        return self.tally.minutes > 0

    @contextlib.asynccontextmanager
    async def run(
        self,
        settings: ClusterSettings | None = None,
        *,
        load: LoadSettings | None = None,
        share: float = 0.0,
        may_fail: Iterable[str] = (),
    ) -> AsyncIterator[Run]:
        """The body makes faults while the load is on; the end of the block asserts that nothing came of them.

        `share` of the minutes of the long form is this run's. `may_fail`: codes of explicit failures that may happen.
        """
        settings = settings or ClusterSettings()
        settings = attrs.evolve(settings, settings={"retention_s": 12, **settings.settings})
        async with Cluster(settings) as cluster:
            # Of which there are none yet but those of nodes.
            keys = RedisKeys(cluster.client(), allowed=LEFT_AT_REST)
            clients = StreamLoad(
                lambda: cluster.gateway_urls,
                load or LoadSettings(clients=CLIENTS, max_tokens=TOKENS),
                seed=self.tally.seed,
            )
            run = Run(cluster, clients, random.Random(self.tally.seed), share * self.tally.minutes * 60)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(clients.run)
                with trio.fail_after(20):
                    await poll_until(lambda: clients.history.open >= 50)
                yield run
                with trio.fail_after(30):
                    await cluster.wait_ready()
                clients.stop()
            run.seen = self._judge(run)
            left = await _wait_settled(cluster)
            sys.stdout.write(f"seed {self.tally.seed}: {run.verdict}\n")
            tracebacks = cluster.tracebacks()
            self.tally.problems += bool(left or tracebacks)
            assert not run.verdict.broken, str(run.verdict)
            assert set(run.verdict.failures) <= set(may_fail), str(run.verdict)
            assert not left, left
            assert not tracebacks, "\n".join(tracebacks)
            assert not await trio.to_thread.run_sync(_without_ttl, cluster.client())
            if settings.settings["retention_s"] <= 5:  # type: ignore[operator]
                left_behind = await keys.wait_none_left(within_s=15)
                assert not left_behind, left_behind

    def _judge(self, run: Run) -> CheckReport:
        verdict = check(
            run.load.history,
            strikes=strikes(run.nemeses),
            takeovers_at=moments([each for each in run.nemeses if isinstance(each, KillWorker)]),
        )
        self.tally.verdicts.append(verdict)
        return verdict

    def note_gaps(self, run: Run, name: str, nemesis: Nemesis) -> None:
        """Shows what clients saw of this one. Only where no other fault was on at the same time."""
        self.tally.gaps.setdefault(name, []).extend(gaps_at(run.verdict.gaps, nemesis.moments))


async def _wait_settled(cluster: Cluster) -> list[str]:
    """What is not at rest after a while: no request may be left in a queue or in a hand, whoever asked for it."""
    left: list[str] = []
    with trio.move_on_after(_SETTLE_S):
        while left := await trio.to_thread.run_sync(_unsettled, cluster.client()):  # noqa: ASYNC110 - another process's state
            await trio.sleep(0.2)
    return left


def _unsettled(client: "redis.Redis") -> list[str]:
    with client:
        counters: dict[bytes, bytes] = client.hgetall(NAMES.ledger(LedgerKey.COUNTERS))  # type: ignore[assignment]
        found = [
            f"{name} {counters[name.encode()].decode()}"
            for name in ("queued", "queued_bytes", "running", "quarantined")
            if int(counters.get(name.encode(), b"0"))
        ]
        for key in client.scan_iter(f"{NAMES.ledger_prefix}*", count=1000):
            kind = NAMES.ledger_key_of(key)
            if kind in _WORK:
                found.append(key.decode())
            elif kind is LedgerKey.REQUEST and client.hget(key, "st") not in {b"e", None}:
                found.append(f"{key.decode()} has not ended")
        return found


def _without_ttl(client: "redis.Redis") -> list[bytes]:
    with client:
        return [key for key in client.scan_iter(count=1000) if client.ttl(key) == -1]
