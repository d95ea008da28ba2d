"""A cluster under a constant load, and round after round of two faults at once."""

import contextlib
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal

import attrs
import trio

from llmactors.redislink.names import LedgerKey
from llmactors.testing.checker import CheckReport, check
from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.failover import FailOver, FailoverCluster
from llmactors.testing.managed_process import poll_until
from llmactors.testing.nemeses import Nemesis, strikes
from llmactors.testing.returning_clients import LoadSettings, StreamLoad
from tests.chaos.runs import NAMES, usage_of, wait_flowing, wait_settled
from tests.chaos.sabotage import Sabotage
from tests.chaos.storm.keepers import KeeperCluster, KeeperFailoverCluster
from tests.chaos.storm.nemeses import Weighted, kept, lost
from tests.chaos.storm.plain import PlainClients
from tests.chaos.storm.rounds import Strike, rounds

CLIENTS = 40
PLAIN_CLIENTS = 20
TOKENS = 40
RECOVERY_S = 40.0
"""A storm is over, as failed, once a stream gets no token for so long after the end of all faults."""
Kind = Literal["kept", "lost", "failovers"]
_SETTINGS = {
    # An answer must not expire while its client and its gateways are stopped for 30 s.
    "retention_s": 120,
    "resume_grace_s": 60,
    "usage_records_max": 1_000_000,
    # Workers are killed so often that a request may lose many of them, and none of the requests is guilty.
    "quarantine_from_attempt": 8,
    "keeper": True,
}


@attrs.define
class Outcome:
    """What one storm has found."""

    kind: Kind
    seed: int
    report: CheckReport
    nemeses: list[Nemesis]
    recoveries: dict[str, list[float]]
    """After rounds with each fault: the seconds from the end of both faults until every open stream went on."""
    seconds: float
    exits: Counter[str]
    """Why processes ended that nobody had killed."""
    wrong: list[str]
    """What must not be, beside what `report` says."""
    plain: PlainClients

    @property
    def faults(self) -> int:
        return sum(nemesis.count for nemesis in self.nemeses)

    @property
    def may_fail(self) -> set[str]:
        """The codes with which requests may end: none where Redis has lost nothing."""
        return set() if self.kind == "kept" else {"INTERRUPTED", "NOT_FOUND"}

    @property
    def is_right(self) -> bool:
        return not (self.report.broken or self.wrong or set(self.report.failures) - self.may_fail)


async def storm(
    kind: Kind, *, faults: int, seed: int, binary: str | None, limit_s: float = float("inf"), says: bool = True
) -> Outcome:
    """Strikes until there were `faults` faults, or `limit_s` has passed, and judges what the clients saw."""
    settings = ClusterSettings(
        gateways=3,
        workers=4,
        model="mock:step_ms=20,slots=32",
        binary=binary,
        proxied=kind != "failovers",
        settings=_SETTINGS,
        restart_after_s=0.05,
        start_s=120.0,  # a gateway below a keeper is not forked
    )
    cluster = KeeperFailoverCluster(settings) if kind == "failovers" else KeeperCluster(settings)
    began = time.monotonic()
    async with cluster:
        load = StreamLoad(
            lambda: cluster.gateway_urls,
            LoadSettings(clients=CLIENTS, max_tokens=TOKENS, settle_s=RECOVERY_S, replay_share=0.2),
            seed=seed,
        )
        plain = PlainClients(lambda: cluster.gateway_urls, PLAIN_CLIENTS, TOKENS, seed)
        weighted = _faults_of(kind, cluster)
        strikes_of = rounds([weight for _, weight in weighted], f"{kind}/{seed}")
        running = _Running(cluster, load, [nemesis for nemesis, _ in weighted], strikes_of, says=says)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            nursery.start_soon(plain.run)
            with trio.fail_after(30):
                await poll_until(lambda: load.history.open >= CLIENTS // 2)
            with trio.move_on_after(limit_s):
                await running.until(lambda: running.count >= faults)
            with trio.fail_after(RECOVERY_S):
                await cluster.wait_ready()
            load.stop()
            plain.stop()
        left = await wait_settled(cluster)
        left += await trio.to_thread.run_sync(_details, cluster, left)
        usage = None
        if kind == "kept":
            usage = await trio.to_thread.run_sync(usage_of, cluster.client())
        report = check(load.history, strikes=strikes(running.nemeses), usage=usage, forgets=kind != "kept")
        wrong = [
            *running.wrong,
            *_wrong_of(plain, kind),
            *left,
            *_tracebacks(cluster),
            *await trio.to_thread.run_sync(_convicted, cluster),
        ]
        exits = _exits(cluster)
    return Outcome(
        kind, seed, report, running.nemeses, running.recoveries, time.monotonic() - began, exits, wrong, plain
    )


def _wrong_of(plain: PlainClients, kind: Kind) -> list[str]:
    """What clients saw that never connect again. Where Redis loses something, answers may be cut."""
    found = [*plain.wrong]
    if kind == "kept":
        found += [f"{count} plain clients were cut: {why}" for why, count in plain.cuts.items()]
        found += [f"{count} plain clients got {code}" for code, count in plain.failures.items()]
    return found


def _faults_of(kind: Kind, cluster: Cluster) -> Weighted:
    if isinstance(cluster, FailoverCluster):
        others = [pair for pair in lost(cluster) if pair[0].name in {"workers killed", "gateways killed"}]
        return [(FailOver(cluster), 4.0), *others]
    return kept(cluster) if kind == "kept" else lost(cluster)


@attrs.define(eq=False)
class _Running:
    """The rounds of one storm."""

    cluster: Cluster
    load: StreamLoad
    nemeses: list[Nemesis]
    rounds: Iterator[tuple[Strike, Strike]]
    says: bool
    recoveries: dict[str, list[float]] = attrs.field(factory=dict)
    wrong: list[str] = attrs.field(factory=list)

    @property
    def count(self) -> int:
        return sum(nemesis.count for nemesis in self.nemeses)

    async def until(self, is_enough: Callable[[], bool]) -> None:
        """One round after another, until `is_enough`, or a stream does not go on."""
        for number in itertools.count(1):
            pair = next(self.rounds)
            names = [self.nemeses[strike.which].name for strike in pair]
            async with trio.open_nursery() as nursery:
                for strike in pair:
                    nursery.start_soon(self._strike, strike)
            ended = time.monotonic()
            try:
                await wait_flowing(self.load, within_s=RECOVERY_S)
            except trio.TooSlowError:
                open_now = [request for request in self.load.history.requests if not request.ends and not request.gone]
                self.wrong.append(f"round {number} ({' and '.join(names)}): {len(open_now)} streams do not go on")
                ids = [request.id for request in open_now[:3]]
                self.wrong += await trio.to_thread.run_sync(_facts, self.cluster, ids)
                return
            took_s = time.monotonic() - ended
            for name in names:
                self.recoveries.setdefault(name, []).append(took_s)
            if self.says:
                sys.stderr.write(f"round {number}: {' and '.join(names)}, flowing after {took_s:.1f} s\n")
            if is_enough():
                return

    async def _strike(self, strike: Strike) -> None:
        await trio.sleep(strike.after_s)
        await self.nemeses[strike.which].strike(random.Random(strike.seed))


def _tracebacks(cluster: Cluster) -> list[str]:
    """The tracebacks of the processes, but for those of actors that the storm itself has crashed."""
    return [text for text in cluster.tracebacks() if Sabotage.__name__ not in text]


def _convicted(cluster: Cluster) -> list[str]:
    """The requests that became dead letters. No request of the load is guilty of anything."""
    with cluster.client() as client:
        found = client.xlen(NAMES.ledger(LedgerKey.DEAD_LETTERS))
    return [f"{found} requests are dead letters"] if found else []


def _details(cluster: Cluster, left: list[str]) -> list[str]:
    """What Redis says of the requests in the sorted sets that are left."""
    found = []
    with cluster.client() as client:
        for name in left:
            if client.type(name) == b"zset":
                for member, score in client.zrange(name, 0, 2, withscores=True):
                    fields = client.hgetall(NAMES.ledger(LedgerKey.REQUEST, member.decode()))
                    found.append(f"{name} has {member!r} at {score:.0f}: {fields!r}, now {client.time()}")
    return found


def _facts(cluster: Cluster, ids: list[str]) -> list[str]:
    """What Redis and the last lines of all nodes say of requests that do not go on."""
    with cluster.client() as client:
        found = [f"{each}: {client.hgetall(NAMES.ledger(LedgerKey.REQUEST, each))!r}" for each in ids]
        leases = (NAMES.ledger(LedgerKey.WORKERS), NAMES.ledger(LedgerKey.GATEWAYS))
        found += [f"{name} at {client.time()!r}: {client.zrange(name, 0, -1, withscores=True)!r}" for name in leases]
    for member in cluster.members:
        found += [f"{member!r} said: {line[:300]}" for line in member.stderr().splitlines()[-3:]]
    return found


def _exits(cluster: Cluster) -> Counter[str]:
    """The last words of each process that ended without SIGKILL."""
    found: Counter[str] = Counter()
    for member in cluster.members:
        for number, code in enumerate(member.exits, 1):
            if code == -9:
                continue
            text = (member.directory / f"{member.name}.{number}.err").read_text("utf-8", "replace")
            last = (text.splitlines() or ["no word"])[-1]
            with contextlib.suppress(ValueError, KeyError):
                last = str(json.loads(last)["event"])
            found[f"{member.role}, code {code}: {last[-300:]}"] += 1
    return found
