"""Has the faults of a schedule strike a cluster, and says when a request may have been charged for them."""

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import attrs
import trio
from trio.testing import MockClock

from llmactors.actors import MisuseError
from llmactors.cluster.cordon import Cordon
from llmactors.redislink.names import RedisNames
from tests.simulation.cluster import Process, SimulatedCluster
from tests.simulation.determinism import BEGIN_S
from tests.simulation.faults import DEATHS, FORGETS, OF_KEEPERS, OF_UPSTREAMS, PAUSE, SILENCES, Fault
from tests.simulation.network import Host, Network, Server

_RECOVERY_S = 3.0
"""How long after a silence its worker is heard again, at the latest."""
_LIFE_OF_SNAPSHOT_S = 0.5
_CORDON = """#!lua flags=allow-oom
if ARGV[1] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[1]) end
redis.call('PUBLISH', KEYS[1], '')
"""
"""As a node directory does, with the virtual time."""

_OF_NETWORK: Mapping[str, Callable[[float], tuple[str, float]]] = {
    "lose commands and replies": lambda choice: ("loss", 0.03 if choice < 0.5 else 0.1),
    "slow network": lambda _choice: ("slow_s", 0.3),
    "slow disk": lambda choice: ("disk_s", 0.02 + 0.5 * choice),
}
"""The faults of the whole network: what they set, and to what."""

_Effect = tuple[Callable[[], object], Callable[[], object]]
_Victim = TypeVar("_Victim", Process, Host)


@attrs.define
class Charges:
    """Faults for which requests may have been charged an attempt."""

    deaths: list[float] = attrs.field(factory=list)
    """When something died. Its requests are charged for good."""
    silences: list[tuple[float, float]] = attrs.field(factory=list)
    """From when to when something was silent. Its requests are charged until it is heard again."""

    def before(self, ended_at: float) -> int:
        """The most attempts for which a request that ended then may be charged, beside the one that ended it."""
        deaths = sum(at <= ended_at for at in self.deaths)
        return deaths + sum(begun <= ended_at <= ended for begun, ended in self.silences)


class Striker:
    """Run `run` as a task, which ends when all faults are over."""

    def __init__(
        self, network: Network, cluster: SimulatedCluster, schedule: Sequence[Fault], deaths: list[float]
    ) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.charges = Charges(deaths)
        self._network = network
        self._cluster = cluster
        self._schedule = schedule
        self._snapshots: collections.deque[dict[bytes, tuple[bytes, int]]] = collections.deque(maxlen=2)
        self._cordons = RedisNames("main")

    def __repr__(self) -> str:
        return f"<Striker {dict(self.counts)}>"

    async def run(self, clock: MockClock) -> None:
        """Strikes with all faults at their times."""
        async with trio.open_nursery() as nursery:
            for fault in self._schedule:
                await trio.sleep_until(fault.at_s)
                self.counts[fault.kind] += 1
                if fault.kind in DEATHS:
                    self.charges.deaths.append(trio.current_time())
                if fault.kind in SILENCES:
                    until = trio.current_time() + fault.for_s + _RECOVERY_S
                    self.charges.silences.append((trio.current_time(), until))
                if fault.kind == PAUSE:
                    clock.jump(fault.for_s)
                else:
                    nursery.start_soon(self._suffer, fault)

    async def take_snapshots(self) -> None:
        """Remembers what the store knew, for faults that let it forget; until cancelled."""
        while any(fault.kind == FORGETS for fault in self._schedule):
            await trio.sleep(_LIFE_OF_SNAPSHOT_S)
            [server] = self._network.servers  # no cluster of several servers has a server that forgets
            if server.up:
                self._snapshots.append(server.store.snapshot())
        await trio.sleep_forever()

    async def _suffer(self, fault: Fault) -> None:
        begin, end = self._effect(fault)
        begin()
        if fault.for_s:
            await trio.sleep(fault.for_s)
            end()
            self._network.changed()

    def _effect(self, fault: Fault) -> _Effect:
        """What a fault does when it begins, and when it ends."""
        network, kind = self._network, fault.kind
        if kind in OF_UPSTREAMS:
            return (_nothing, _nothing) if self._cluster.upstreams is None else self._cluster.upstreams.effect(fault)
        if kind in _OF_NETWORK:
            name, value = _OF_NETWORK[kind](fault.choice)
            return lambda: setattr(network, name, value), lambda: setattr(network, name, 0.0)
        server = network.servers[int(fault.choice * len(network.servers)) % len(network.servers)]
        of_cluster: dict[str, _Effect] = {
            "crash an actor": (lambda: self._crash(fault, lambda _path: True), _nothing),
            "crash a backend": (lambda: self._crash(fault, lambda path: "/backends/" in path), _nothing),
            "Redis full": (lambda: self._fill(server, 1), lambda: self._fill(server, 0)),
            "Redis away": (lambda: self._stop(server), lambda: _start(server)),
            "Redis stands still": (lambda: _hold(server, on=True), lambda: _hold(server, on=False)),
            FORGETS: (lambda: self._stop(server, forgets=True), lambda: _start(server)),
        }
        return of_cluster[kind] if kind in of_cluster else self._effect_on(self._victims(fault), kind)

    def _effect_on(self, victims: Sequence[Process], kind: str) -> _Effect:
        cluster, hosts = self._cluster, [each.host for each in victims]
        cut_off: _Effect = (lambda: _set(hosts, "cut_off", on=True), lambda: _set(hosts, "cut_off", on=False))
        of_processes: dict[str, _Effect] = {
            "upgrade": (lambda: _each(victims, lambda each: cluster.tell_keeper(each, "upgrade")), _nothing),
            "lose a standby": (lambda: _each(victims, lambda each: cluster.tell_keeper(each, "standby")), _nothing),
            "kill": (lambda: _each(victims, cluster.kill), _nothing),
            "lose a machine": (lambda: _each(victims, cluster.lose), _nothing),
            "drain": (lambda: _each(victims, cluster.drain), _nothing),
            "drop": (lambda: _each(hosts, self._network.cut_connections), _nothing),
            "cordon": (
                lambda: _each(victims, lambda each: self._cordon(each.name, on=True)),
                lambda: _each(victims, lambda each: self._cordon(each.name, on=False)),
            ),
            "lose the replies": (lambda: _set(hosts, "deaf", on=True), lambda: _set(hosts, "deaf", on=False)),
            "cut off": cut_off,
        }
        return next(effect for beginning, effect in of_processes.items() if kind.startswith(beginning))

    def _fill(self, server: Server, maxmemory: int) -> None:
        self._network.operate(server, lambda: server.store.client.config_set("maxmemory", maxmemory))

    def _stop(self, server: Server, *, forgets: bool = False) -> None:
        server.up = False
        self._network.cut_all(server)
        if forgets and self._snapshots:
            server.store.restore(self._snapshots[0])

    def _victims(self, fault: Fault) -> list[Process]:
        """The processes that a fault strikes: most faults one that runs. Of machines, one is never lost."""
        kind = "g" if "gateway" in fault.kind or fault.kind in OF_KEEPERS else "" if "node" in fault.kind else "w"
        up = [each for each in self._cluster.of_kind(kind) if each.is_up]
        if "all workers" in fault.kind:
            return up
        least = 2 if "machine" in fault.kind else 1
        return [up[int(fault.choice * len(up)) % len(up)]] if len(up) >= least else []

    def _cordon(self, name: str, *, on: bool) -> None:
        # Nodes and cordons are on the first server.
        first = self._network.servers[0]
        key, client = self._cordons.cordon(name), first.store.client
        cordon = Cordon(BEGIN_S + trio.current_time()).encode() if on else b""
        self._network.operate(first, lambda: client.eval(_CORDON, 1, key, cordon))

    def _crash(self, fault: Fault, may_be: Callable[[str], bool]) -> None:
        nodes = [each.node for _, each in sorted(self._cluster.processes.items()) if each.node is not None]
        actors = [actor for node in nodes for actor in node.tree.actors() if may_be(actor.path)]
        if not actors:
            return
        try:
            actors[int(fault.choice * len(actors)) % len(actors)].crash(OSError("a planned crash"))
        except MisuseError:
            self.counts["(was not running)"] += 1


def _start(server: Server) -> None:
    server.up = True


def _hold(server: Server, *, on: bool) -> None:
    server.stands_still = on


def _nothing() -> None:
    """Ends a fault that is a moment."""


def _each(victims: Iterable[_Victim], move: Callable[[_Victim], object]) -> None:
    for victim in victims:
        move(victim)


def _set(hosts: Iterable[Host], what: str, *, on: bool) -> None:
    for host in hosts:
        setattr(host, what, on)
