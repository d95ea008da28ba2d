"""What gateways and workers have in common: a ledger on Redis, a record in the node directory, a drain, a cordon."""

import contextlib
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import attrs
import structlog
import trio

from llmactors import __version__
from llmactors.actors import (
    ActorDied,
    ActorRef,
    ActorSpec,
    MailboxFull,
    Phase,
    Question,
    SupervisorStatistics,
    Tree,
    run_phases,
)
from llmactors.cluster.cordon import Cordon
from llmactors.cluster.known_models import KnownModels
from llmactors.cluster.node_record import NodeRecord, Role, new_incarnation
from llmactors.cluster.node_store import KILL, RELOAD, NodeStore
from llmactors.cluster.process_id import ProcessId
from llmactors.cluster.redis_monitor import DIRECTORY, RedisHealth, RedisMonitorActor, WatchedLink
from llmactors.cluster.registration import NameTaken, RegistrationActor, Renew
from llmactors.config import LiveSettings, Settings
from llmactors.errors import ConfigError
from llmactors.ledger.redis import LEDGER_LINK
from llmactors.redislink.call import Call
from llmactors.redislink.link import RedisLink
from llmactors.redislink.settings import LinkSettings
from llmactors.system import wiring
from llmactors.system.ledger_shards import LedgerShards, redis_urls
from llmactors.system.reloading import reload_settings
from llmactors.system.task_actor import TaskActor
from llmactors.system.tracing import tracing
from llmactors.telemetry import Metrics
from llmactors.telemetry.history import LastHour
from llmactors.telemetry.restarts import RecentRestarts
from llmactors.telemetry.tree import TelemetryActor, log_phases

log = structlog.get_logger("llmactors")


class ClusterNode:
    """The base of `GatewayNode` and `WorkerNode`. Each of them builds `tree`, and says how it drains."""

    role: Role

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.live = LiveSettings(settings)
        """The settings as they are after the last reload."""
        self.name = settings.name or name_of_process(self.role, socket.gethostname(), os.getpid())
        self.metrics = Metrics()
        self.history, self.restarts = LastHour(), RecentRestarts()
        self.tracing = tracing(settings, self.name, self.role.value, self.metrics)
        self.shards = LedgerShards(
            settings,
            wiring.ledger_settings(settings),
            name=f"llmactors-{self.name}-ledger",
            link_settings=attrs.evolve(LEDGER_LINK, starts_without_server=True),
        )
        self.ledger = self.shards.whole
        # A second connection, so that a busy ledger delays neither the node's record nor a cordon.
        self._link = RedisLink(
            redis_urls(settings)[0],
            LinkSettings(starts_without_server=True),
            name=f"llmactors-{self.name}",
            tag=settings.namespace,
            on_push=self._on_push,
            on_connect=self._subscribe,
        )
        self._redis_health = RedisHealth()
        self._store = NodeStore(self._link.call, settings.namespace)
        self._known_models = KnownModels(self._link.call, settings.namespace)
        self.metrics.on_scrape(self._show_links)
        self._record = NodeRecord(
            name=self.name,
            role=self.role,
            incarnation=new_incarnation(),
            process=ProcessId.own(),
            started_at=time.time(),
            version=__version__,
        )
        self._registration = ActorSpec("registration", self._make_registration)
        self.tree: Tree
        self._asked_to_end = trio.Event()
        self._draining = False
        self._cordon: Cordon | None = None
        self._up = trio.Event()
        """Set once all actors are up."""
        self._replaced: NameTaken | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def statistics(self) -> SupervisorStatistics:
        """A snapshot of the supervision tree."""
        return self.tree.statistics()

    @property
    def record(self) -> NodeRecord:
        """The record of this node with the values of this moment."""
        draining = self._draining or self.cordoned
        counts = self.metrics.counts()
        return self._describe(attrs.evolve(self._record, draining=draining, cordoned=self.cordoned, counts=counts))

    @property
    def draining(self) -> bool:
        """Whether the node has begun to shut down, and takes no new work."""
        return self._draining

    @property
    def cordoned(self) -> bool:
        """Whether an operator has drained the node, which takes no work but goes on running."""
        return self._cordon is not None

    @property
    def cordon_text(self) -> str:
        """Why the node takes no work, and what ends that; empty where the node has no cordon."""
        return "" if self._cordon is None else self._cordon.describe(self.name)

    @property
    def ends_within_s(self) -> float:
        """The time that `shut_down` may take, in seconds."""
        return self.settings.drain_s + 5

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Works until `shut_down` or a cancel.

        Raises the failure that supervision could not mend, or `NameTaken` when another node took the name.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._shut_down_when_asked)
                async with trio.open_nursery() as running:
                    await running.start(self.tree.run)
                    self._up.set()
                    task_status.started()
                nursery.cancel_scope.cancel(reason="the node has ended")
        finally:
            self._close()
            self.tracing.close()
        if self._replaced is not None:
            raise self._replaced

    async def wait_up(self) -> None:
        """Returns once all actors of the node are up. No checkpoint if they are."""
        if not self._up.is_set():
            await self._up.wait()

    async def shut_down(self) -> None:
        """Drains for up to `drain_s` seconds, and stops all actors. Then `run` ends. A second call does nothing."""
        if not self._up.is_set():
            self.tree.stop()
            return
        if self._draining:
            return
        self._draining = True
        self._renew()  # gateways must send this node no more work
        drain_s = self.settings.drain_s
        log_phases(
            await run_phases(
                [Phase("drain", self._drain, limit_s=drain_s + 2), Phase("stop", self._stop)],
                overall_s=self.ends_within_s,
            )
        )

    # What a role adds.

    def _describe(self, record: NodeRecord) -> NodeRecord:
        """The record with the values of this moment."""
        return record

    async def _drain(self) -> None:
        raise NotImplementedError

    def _cordon_changed(self) -> None:
        """Called after the node has got a cordon, or has lost its cordon."""

    def _close(self) -> None:
        """Closes the node's sockets after the tree has ended."""

    # What roles use.

    def _infra(self, *samplers: Callable[[], Awaitable[object]]) -> tuple[ActorSpec, ...]:
        return (*self._links(), *self._observers(*samplers))

    def _links(self) -> tuple[ActorSpec, ...]:
        """The actors of the connections to Redis."""
        return (
            ActorSpec("redis ledger", lambda: TaskActor(self.shards.run)),
            ActorSpec("directory link", lambda: TaskActor(self._link.run)),
        )

    def _observers(self, *samplers: Callable[[], Awaitable[object]]) -> tuple[ActorSpec, ...]:
        """The actors that measure the node and Redis again and again, and report it."""
        parts = zip(self.shards.link_names, self.shards.parts, strict=True)
        watched = (
            *(WatchedLink(name, part.link, part.probe) for name, part in parts),
            WatchedLink(DIRECTORY, self._link, lambda: self._link.call("PING")),
        )
        health, observe = self._redis_health, self.metrics.redis_round_trip
        return (
            ActorSpec("telemetry", lambda: TelemetryActor(self.metrics, samplers)),
            *self.tracing.actors,
            ActorSpec("redis monitor", lambda: RedisMonitorActor(watched, health, observe)),
        )

    def ledger_is_up(self) -> bool:
        """Whether Redis, or one Redis of several, answers and admits requests as far as this node knows."""
        return any(self._parts_up())

    def ledger_is_whole(self) -> bool:
        """As `ledger_is_up`, for each Redis of several."""
        return all(self._parts_up())

    def _parts_up(self) -> Iterator[bool]:
        for name, part in zip(self.shards.link_names, self.shards.parts, strict=True):
            yield part.link.is_up and self._redis_health.problem_of(name) is None

    async def _stop(self) -> None:
        self.tree.stop()

    def _show_links(self) -> None:
        error_replies: Counter[str] = Counter()
        links = [part.link for part in self.shards.parts]
        for name, link in zip((*self.shards.link_names, DIRECTORY), (*links, self._link), strict=True):
            found = link.statistics()
            self.metrics.redis_link(
                name,
                up=found.up,
                in_flight=found.in_flight,
                queued_bytes=found.queued_bytes,
                connects=found.connects,
                commands=found.commands,
                unknown=found.unknown,
                overflows=found.overflows,
            )
            error_replies.update(found.error_replies)
        outage = self._redis_health.outage
        losses: Counter[str] = Counter()
        for part in self.shards.parts:
            losses.update({loss.value: count for loss, count in part.losses.counts.items()})
        self.metrics.redis_health(
            available=not outage.problems,
            outages=outage.began,
            outage_s=outage.total_s(trio.current_time()),
            error_replies=error_replies,
            wrong_settings=self._redis_health.wrong_settings,
            losses=losses,
        )

    async def _shut_down_when_asked(self) -> None:
        await self._asked_to_end.wait()
        await self.shut_down()

    def _make_registration(self) -> RegistrationActor:
        return RegistrationActor(
            self._store,
            lambda: self.record,
            self.statistics,
            on_cordon=self._note_cordon,
            on_replaced=self._was_replaced,
        )

    def _renew(self) -> None:
        with contextlib.suppress(MailboxFull, ActorDied):  # a full mailbox holds a `Renew` already
            self._registration.ref.tell_nowait(Renew())

    def _note_cordon(self, cordon: Cordon | None) -> None:
        if cordon == self._cordon:
            return
        before, self._cordon = self._cordon, cordon
        if cordon is not None:
            log.warning("this node is drained and takes no work", node=self.name, cause=self.cordon_text)
        else:
            log.warning("this node takes work again: its cordon is over", node=self.name)
        if (cordon is None) != (before is None):
            self._cordon_changed()
            self._renew()  # the other nodes hear of this at once

    def _was_replaced(self, error: NameTaken) -> None:
        if self._replaced is None:
            log.error("this node ends because another node took its name", node=self.name, holder=error.message)
            self._replaced = error
            self._asked_to_end.set()

    async def _subscribe(self, call: Call) -> None:
        await call("SUBSCRIBE", self._store.cordon_channel(self.name))

    def _on_push(self, push: list[Any]) -> None:
        if push[0] != b"message":
            return
        if push[2] == RELOAD:
            with contextlib.suppress(ConfigError):  # the log says why
                reload_settings(self.live)
        elif push[2].startswith(KILL):
            self._kill(push[2].removeprefix(KILL).decode())
        else:
            self._renew()  # the answer has the cordon

    def _kill(self, model: str) -> None:
        """Kills the process of a model. Only a worker has one."""


def has_lasting_name(record: NodeRecord) -> bool:
    """Whether the node has the same name when it is started again: an operator chose the name, as by `--name`."""
    # The number is that of the process, or of the keeper of its connections.
    return re.fullmatch(name_of_process(record.role, re.escape(record.process.host), r"\d+"), record.name) is None


def name_of_process(role: Role, host: str, pid: int | str) -> str:
    """The name of a node for which no operator has chosen one."""
    return f"{role.value}-{host}-{pid}"


async def ask_through_crash(ref: ActorRef[Any], message: Question[None]) -> None:
    """Asks an actor, and asks its next incarnation if the first one crashes. A drain must not be lost in a crash."""
    try:
        await ref.ask(message)
    except ActorDied:
        await ref.ask(message)


def reachable(url: str) -> str:
    """`url` with this machine's name in place of an address that stands for all interfaces."""
    return url.replace("//0.0.0.0:", f"//{socket.gethostname()}:").replace("//[::]:", f"//{socket.gethostname()}:")
