"""One simulation: the cluster, its clients, the faults that strike them, and the judgement."""

import contextlib
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import attrs
import trio
from trio.testing import MockClock

from llmactors.redislink.names import RedisNames
from llmactors.testing.checker import CheckReport, check
from llmactors.testing.usage_oracle import UsageSeen, usage_of_all, usage_seen
from tests.chaos.order import Monitor, Order
from tests.simulation import determinism
from tests.simulation.backend import Bench
from tests.simulation.cluster import HOST, SimulatedCluster
from tests.simulation.content.judge import ContentReport, judge
from tests.simulation.content.load import ContentLoad
from tests.simulation.faults import FORGETS
from tests.simulation.judge import Evidence, complaints, unsettled
from tests.simulation.keepers.world import KeeperWorld
from tests.simulation.load import CONCURRENT_MAX, VariedLoad, keys_of_tenants, record_of
from tests.simulation.network import Host, Network
from tests.simulation.recording import read_bounds
from tests.simulation.store import Store
from tests.simulation.strikes import Striker
from tests.simulation.themes import Plan
from tests.simulation.upstreams import MODEL
from tests.simulation.visitors import Visitors

_MOST_S = 400.0
"""The most virtual seconds of a run."""
_SETTLE_S = 30.0
"""How long after the load everything has ended."""
_HEARD_S = 1.5
"""How long after its end a backend holds a request at most."""
_NOBODY = Host("nobody")


@attrs.frozen
class Outcome:
    """What became of one run."""

    report: CheckReport
    complaints: list[str]
    """What must not be: empty for a good run."""
    trace: str
    """A digest of all commands that reached the store, with their times."""
    virtual_s: float
    commands: int
    strikes: dict[str, int]
    readings: int
    """How many streams visitors read."""
    content: ContentReport
    """What the clients saw that ask for more than plain text."""
    order: Order
    """The order of all writes, as the server saw it; empty where the server forgot some of them."""
    cpu_s: float
    """The processor time of the run, in seconds."""


class World:
    """One simulation."""

    def __init__(self, store: Store, shards: Sequence[Store], seed: int, plan: Plan, folder: Path) -> None:
        world = plan.world
        self._store = store
        self._clients = [each.client for each in (store, *shards)]
        self._seed = seed
        self._plan = plan
        self._network = Network(store, random.Random(f"network of {seed}"), shards)
        self._bench = Bench(random.Random(f"bench of {seed}"))
        rng = random.Random(f"world of {seed}")
        self._cluster = SimulatedCluster(self._network, self._bench, world, rng, folder)
        determinism.skew_clocks(lambda: HOST.get(_NOBODY).skew_s)
        keys = keys_of_tenants() if world.tenants else {}
        texts = {tenant: key.text for tenant, key in keys.items()}
        records = {key.id: record_of(tenant, key, determinism.BEGIN_S).encode() for tenant, key in keys.items()}
        if records:
            store.client.hset(RedisNames("main").api_keys, items=["@mark", "first"])
            for key_id, record in records.items():
                store.client.hset(RedisNames("main").api_keys, key_id, record.decode())
        self._load = VariedLoad(self._cluster.urls, world, seed, texts)
        self._visitors = Visitors(self._cluster.urls, self._load, world, seed, texts)
        upstreams = self._cluster.upstreams
        unserved = {} if upstreams is None else {MODEL: upstreams.unserved}
        self._content = ContentLoad(self._cluster.urls, world.content, unserved, seed=seed)
        self._keepers: KeeperWorld | None = None
        if world.keeper_rate is not None:
            self._keepers = KeeperWorld.of(self._cluster, world, seed, folder)
        self._striker = Striker(self._network, self._cluster, plan.schedule, self._bench.deaths)

    async def run(self, clock: MockClock) -> Outcome:
        """Runs until the schedule is over and every accepted request has ended."""
        begun = time.process_time()
        left: list[str] = []
        with trio.move_on_after(_MOST_S) as limit:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._network.run)
                await nursery.start(self._cluster.run)
                nursery.start_soon(self._striker.take_snapshots)
                if self._keepers is not None:
                    await nursery.start(self._keepers.run)
                async with trio.open_nursery() as loads:
                    loads.start_soon(self._load.run)
                    loads.start_soon(self._visitors.run)
                    loads.start_soon(self._content.run)
                    if self._keepers is not None:
                        loads.start_soon(self._keepers.run_loads)
                    await self._striker.run(clock)
                    await trio.sleep(max(0.0, self._plan.world.load_s - trio.current_time()))
                    self._load.stop()
                    self._visitors.stop()
                    self._content.stop()
                    if self._keepers is not None:
                        self._keepers.stop_loads()
                left = await self._wait_settled()
                held = self._bench.still_held()
                left += [f"backends hold {len(held)} requests that have ended"] if held else []
                self._cluster.kill_all()
                nursery.cancel_scope.cancel(reason="the simulation is over")
        usage = self._usage()
        report = check(self._load.history, self._load.answer, strikes=self._striker.counts, usage=usage)
        origins = {} if self._keepers is None else self._keepers.kernel.origins
        content = judge(self._content.readers, self._store.client, RedisNames("main"), usage, origins)
        evidence = Evidence(
            plan=self._plan,
            load=self._load,
            visitors=self._visitors,
            report=report,
            charges=self._striker.charges,
            bench=self._bench,
            clients=self._clients,
            left=left,
        )
        found = complaints(evidence)
        if usage is not None and self._plan.world.tenants:
            found += usage.differences({}, is_charged=True)
        found += [f"{count} answers broken: {kind}" for kind, count in content.broken.items() if count]
        found += [f"{count} calls ended with {code}" for code, count in content.failures.items()]
        found += [f"a node ended: {text}" for text in self._cluster.exits]
        if self._keepers is not None:
            found += self._keepers.complaints(self._load, self._content, usage)
            self._striker.counts.update(self._keepers.strikes)
        found += ["the run did not end"] if limit.cancelled_caught else []
        return Outcome(
            report=report,
            complaints=found,
            trace=self._network.trace.hexdigest(),
            virtual_s=trio.current_time(),
            commands=self._network.commands,
            strikes=dict(self._striker.counts),
            readings=len(self._visitors.readings),
            content=content,
            order=Order(),
            cpu_s=time.process_time() - begun,
        )

    async def _wait_settled(self) -> list[str]:
        """Waits until no request is open; returns what is then still there. Backends hear of ends a little later."""
        left: list[str] = []
        with trio.move_on_after(_SETTLE_S):
            while left := self._unsettled():  # noqa: ASYNC110 - the stores' state
                await trio.sleep(0.25)
            await trio.sleep(_HEARD_S)
        return left

    def _unsettled(self) -> list[str]:
        return [text for client in self._clients for text in unsettled(client)]

    def _usage(self) -> UsageSeen | None:
        """What Redis says of usage; None where Redis forgot what it had said."""
        if any(fault.kind == FORGETS for fault in self._plan.schedule):
            return None
        return usage_of_all([usage_seen(client, RedisNames("main")) for client in self._clients])


def simulate(store: Store, seed: int, plan: Plan) -> Outcome:
    """Runs one simulation from its beginning to its end."""
    store.clear()
    with contextlib.ExitStack() as stack:
        shards = [stack.enter_context(Store(store.binary)) for _ in range(1, plan.world.shards)]
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="llmactors-simulation-"))
        world = World(store, shards, seed, plan, Path(folder))
        clock = MockClock(autojump_threshold=0)
        if any(fault.kind == FORGETS for fault in plan.schedule):
            return trio.run(world.run, clock, clock=clock)
        monitors = [
            stack.enter_context(Monitor(each.port, Path(folder) / f"monitor-{number}"))
            for number, each in enumerate((store, *shards))
        ]
        outcome = trio.run(world.run, clock, clock=clock)
        order, found = Order(), list(outcome.complaints)
        for monitor in monitors:
            monitor.close()
            order = order.with_that_of(monitor.order())
            found += read_bounds(monitor.path, plan.world.slots, CONCURRENT_MAX)
        found += [f"{len(order.violations)} writes out of order"] if order.violations else []
        return attrs.evolve(outcome, order=order, complaints=found)
