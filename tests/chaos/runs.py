"""One chaos run: a cluster, a constant load, the faults of the test, and the report. And the tally of all runs."""

import contextlib
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence

import attrs
import redis
import trio

from llmactors.backends.mock.backend import MockCrash
from llmactors.redislink.names import LedgerKey, RedisNames
from llmactors.testing.checker import CheckReport, check, gaps_at, percentiles
from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.history import Gap
from llmactors.testing.key_observer import LEFT_AT_REST, RedisKeys
from llmactors.testing.managed_process import poll_until
from llmactors.testing.nemeses import KillWorker, Nemesis, moments, strikes
from llmactors.testing.returning_clients import LoadSettings, StreamLoad
from llmactors.testing.usage_oracle import UsageSeen, usage_seen
from tests.support.ledger_keys import ledger_key_of

CLIENTS = 56
"""A few more clients than the fifty open streams that are promised, since some clients are between two requests."""
TOKENS = 40
"""A request takes 0.8 s at a 20 ms step. Faults that lose a worker are further apart than that, since a request that
loses its worker three times is convicted."""
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
    """The sum of all runs, which pytest prints at its end."""

    seed: int
    minutes: float
    reports: list[CheckReport] = attrs.field(factory=list)
    gaps: dict[str, list[Gap]] = attrs.field(factory=dict)
    """The gaps that clients saw in runs with one kind of fault alone, by the name of the fault."""
    notes: list[str] = attrs.field(factory=list)
    problems: int = 0
    """The number of runs that left something behind or wrote a traceback."""

    def lines(self) -> list[str]:
        """The lines that pytest prints."""
        faults: Counter[str] = Counter()
        failures: Counter[str] = Counter()
        for report in self.reports:
            faults.update(report.strikes)
            failures.update(report.failures)

        def total(name: str) -> str:
            return f"{sum(getattr(report, name) for report in self.reports):,}"

        lines = [
            f"seed {self.seed}, {len(self.reports)} runs of {CLIENTS} streams at a 20 ms step",
            "faults: " + (", ".join(f"{count:,} {name}" for name, count in faults.most_common()) or "none"),
            f"requests {total('accepted')} accepted, {total('ended_once')} ended once · tokens {total('tokens')}",
            (
                f"lost requests {total('lost_requests')} · lost tokens {total('lost')} · "
                f"repeated {total('repeated')} · wrong {total('wrong')} · ended twice {total('second_ends')} · "
                f"misrecorded {total('misrecorded')}"
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
    """What a test uses while the load runs."""

    cluster: Cluster
    load: StreamLoad
    rng: random.Random
    budget_s: float
    """How long the faults go on with `--chaos-minutes`; 0 without: each fault strikes a few times."""
    nemeses: list[Nemesis] = attrs.field(factory=list)
    judged: CheckReport | None = None

    @property
    def report(self) -> CheckReport:
        """The report, once the run is over."""
        assert self.judged is not None
        return self.judged

    def add(self, *nemeses: Nemesis) -> None:
        """Counts the strikes of these nemeses in the report."""
        self.nemeses.extend(nemeses)

    async def strike(self, plan: Sequence[tuple[Nemesis, int, float]]) -> None:
        """Strikes with one nemesis after another, and repeats the whole plan until `budget_s` has passed.

        Each row of `plan` is a nemesis, its number of strikes, and about how many seconds follow each strike.
        """
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
        """A counter that the ledger keeps in Redis."""
        with self.cluster.client() as client:
            return int(client.hget(NAMES.ledger(LedgerKey.COUNTERS), name) or 0)

    async def wait_flowing(self, *, within_s: float = 20.0) -> None:
        """Waits until every open stream has got another token."""
        await wait_flowing(self.load, within_s=within_s)


@attrs.define(eq=False)
class Chaos:
    """Makes runs, and adds their reports to the tally."""

    tally: Tally

    @property
    def is_long(self) -> bool:
        """Whether pytest was called with `--chaos-minutes`."""
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
        """Runs a load on a cluster while the block makes faults; the end of the block asserts that nothing was lost.

        Args:
            settings: The cluster.
            load: The load.
            share: The share of `--chaos-minutes` that this run takes.
            may_fail: The error codes with which requests may end.
        """
        settings = settings or ClusterSettings()
        settings = attrs.evolve(settings, settings={"retention_s": 12, **settings.settings})
        async with Cluster(settings) as cluster:
            # At this time Redis holds only the records of nodes.
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
            left = await wait_settled(cluster)
            run.judged = self._judge(run, await trio.to_thread.run_sync(usage_of, cluster.client()))
            sys.stdout.write(f"seed {self.tally.seed}: {run.report}\n")
            # The crash of a poisonous request is what its test wants.
            tracebacks = [text for text in cluster.tracebacks() if MockCrash.__name__ not in text]
            self.tally.problems += bool(left or tracebacks)
            assert not run.report.broken, str(run.report)
            assert set(run.report.failures) <= set(may_fail), str(run.report)
            assert not left, left
            assert not tracebacks, "\n".join(tracebacks)
            assert not await trio.to_thread.run_sync(_without_ttl, cluster.client())
            if settings.settings["retention_s"] <= 5:  # type: ignore[operator]
                left_behind = await keys.wait_none_left(within_s=15)
                assert not left_behind, left_behind

    def _judge(self, run: Run, usage: UsageSeen) -> CheckReport:
        report = check(
            run.load.history,
            strikes=strikes(run.nemeses),
            takeovers_at=moments([each for each in run.nemeses if isinstance(each, KillWorker)]),
            usage=usage,
        )
        self.tally.reports.append(report)
        return report

    def note_gaps(self, run: Run, name: str, nemesis: Nemesis) -> None:
        """Adds the gaps that clients saw of this nemesis to the tally. No other fault may have struck meanwhile."""
        self.tally.gaps.setdefault(name, []).extend(gaps_at(run.report.gaps, nemesis.moments))


async def wait_flowing(load: StreamLoad, *, within_s: float) -> None:
    """Waits until every stream that is open now has got another token. Raises `trio.TooSlowError`."""
    waiting = {id(each): (each, len(each.tokens)) for each in load.history.requests if not each.ends and not each.gone}

    def all_went_on() -> bool:
        for key, (request, had) in list(waiting.items()):
            if request.ends or request.gone or len(request.tokens) > had:
                del waiting[key]
        return not waiting

    with trio.fail_after(within_s):
        await poll_until(all_went_on)


async def wait_settled(cluster: Cluster) -> list[str]:
    """Waits until no request is queued or running in Redis; returns what still is after `_SETTLE_S`."""
    left: list[str] = []
    with trio.move_on_after(_SETTLE_S):
        while left := await trio.to_thread.run_sync(_unsettled, cluster.client()):  # noqa: ASYNC110 - another process's state
            await trio.sleep(0.2)
    return left


def usage_of(client: "redis.Redis") -> UsageSeen:
    with client:
        return usage_seen(client, NAMES)


def _unsettled(client: "redis.Redis") -> list[str]:
    with client:
        counters: dict[bytes, bytes] = client.hgetall(NAMES.ledger(LedgerKey.COUNTERS))  # type: ignore[assignment]
        found = [
            f"{name} {counters[name.encode()].decode()}"
            for name in ("queued", "queued_bytes", "running", "quarantined")
            if int(counters.get(name.encode(), b"0"))
        ]
        for key in client.scan_iter(f"{NAMES.ledger_prefix}*", count=1000):
            kind = ledger_key_of(NAMES, key)
            if kind in _WORK:
                found.append(key.decode())
            elif kind is LedgerKey.REQUEST and client.hget(key, "st") not in {b"e", None}:
                found.append(f"{key.decode()} has not ended")
        return found


def _without_ttl(client: "redis.Redis") -> list[bytes]:
    with client:
        return [key for key in client.scan_iter(count=1000) if client.ttl(key) == -1]
