"""What gateways and workers have in common: a ledger on Redis, a place in the node directory, and a drain."""

import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import structlog
import trio

from llmactors import __version__
from llmactors.actors import (
    Actor,
    ActorDied,
    ActorRef,
    ActorSpec,
    Context,
    MailboxFull,
    Phase,
    SupervisorStatistics,
    Tree,
    run_phases,
)
from llmactors.cluster.node_actor import NameTaken, NodeActor, Renew
from llmactors.cluster.node_record import NodeRecord, Role, new_incarnation
from llmactors.cluster.node_store import NodeStore
from llmactors.cluster.process_id import ProcessId
from llmactors.config import Settings
from llmactors.errors import ConfigError
from llmactors.ledger.redis import RedisLedger, RedisLedgerSettings
from llmactors.redislink import Call, RedisLink
from llmactors.system import wiring
from llmactors.telemetry import Metrics
from llmactors.telemetry.tree import TelemetryActor, log_phases

log = structlog.get_logger("llmactors")


class ServiceActor(Actor):
    """Runs something that others use directly, as a link or a ledger is. It starts anew only if that crashes."""

    def __init__(self, run: Callable[..., Awaitable[object]]) -> None:
        self._run = run

    async def on_start(self, context: Context) -> None:
        await context.start(self._run)


class ClusterNode:
    """The base of `GatewayNode` and `WorkerNode`, which hand in what they add to the tree, and how they drain."""

    role: Role

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = settings.name or f"{self.role.value}-{socket.gethostname()}-{os.getpid()}"
        self.metrics = Metrics()
        url = redis_url(settings)
        self.ledger = RedisLedger(
            url,
            wiring.ledger_settings(settings),
            RedisLedgerSettings(namespace=settings.namespace),
            name=f"llmactors-{self.name}-ledger",
        )
        # A connection of its own: a record is renewed and a drain is heard however much the ledger has to do.
        self._link = RedisLink(url, name=f"llmactors-{self.name}", on_push=self._on_push, on_connect=self._subscribe)
        self._store = NodeStore(self._link.call, settings.namespace)
        self.metrics.on_scrape(self._show_links)
        self._record = NodeRecord(
            name=self.name,
            role=self.role,
            incarnation=new_incarnation(),
            process=ProcessId.own(),
            started_at=time.time(),
            version=__version__,
        )
        self._node = ActorSpec("node", self._make_node)
        self.tree: Tree
        self._ending = trio.Event()
        self._draining = False
        self._started = False
        self._replaced: NameTaken | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def statistics(self) -> SupervisorStatistics:
        """Of its supervision tree."""
        return self.tree.statistics()

    @property
    def draining(self) -> bool:
        """Whether it takes no work any more."""
        return self._draining

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Works until `shut_down`, a cancel, or a failure that supervision could not mend, which it raises.

        Somebody may also ask for a drain by way of the directory; and once another node has its name it ends, and
        raises `NameTaken`.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._shut_down_when_asked)
                async with trio.open_nursery() as running:
                    await running.start(self.tree.run)
                    self._started = True
                    task_status.started()
                nursery.cancel_scope.cancel(reason="the node has ended")
        finally:
            self._close()
        if self._replaced is not None:
            raise self._replaced

    async def shut_down(self) -> None:
        """An orderly end: drain, stop in reverse. `run` returns after it. Again is harmless."""
        if not self._started:
            self.tree.stop()
            return
        if self._draining:
            return
        self._draining = True
        self._renew()  # so that the others know
        drain_s = self.settings.drain_s
        log_phases(
            await run_phases(
                [Phase("drain", self._drain, limit_s=drain_s + 2), Phase("stop", self._stop)], overall_s=drain_s + 5
            )
        )

    # What a role adds.

    def _describe(self, record: NodeRecord) -> NodeRecord:
        """The record with what is known only at the moment."""
        return record

    async def _drain(self) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        """Closes what is left when the tree has ended."""

    # What roles use.

    def _infra(self) -> list[ActorSpec]:
        return [
            ActorSpec("ledger", lambda: ServiceActor(self.ledger.run)),
            ActorSpec("directory link", lambda: ServiceActor(self._link.run)),
            ActorSpec("telemetry", lambda: TelemetryActor(self.metrics)),
            self._node,
        ]

    def ledger_is_up(self) -> bool:
        """Whether Redis answers."""
        return self.ledger.link.is_up

    async def _stop(self) -> None:
        self.tree.stop()

    def _show_links(self) -> None:
        for name, link in (("ledger", self.ledger.link), ("directory", self._link)):
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

    async def _shut_down_when_asked(self) -> None:
        await self._ending.wait()
        await self.shut_down()

    def _make_node(self) -> NodeActor:
        return NodeActor(
            self._store,
            lambda: self._describe(attrs.evolve(self._record, draining=self._draining)),
            self.statistics,
            on_drain=self._asked_to_drain,
            on_replaced=self._was_replaced,
        )

    def _renew(self) -> None:
        tell_if_room(self._node.ref, Renew())

    def _asked_to_drain(self) -> None:
        if not self._ending.is_set():
            log.info("asked to drain", node=self.name)
            self._ending.set()

    def _was_replaced(self, error: NameTaken) -> None:
        if self._replaced is None:
            log.error("another node has this one's name", node=self.name, holder=error.message)
            self._replaced = error
            self._ending.set()

    async def _subscribe(self, call: Call) -> None:
        await call("SUBSCRIBE", self._store.drain_channel(self.name))

    def _on_push(self, push: list[Any]) -> None:
        if push[0] == b"message":
            self._renew()  # whose answer says whether it is really this incarnation that is meant


def tell_if_room(ref: ActorRef, message: object) -> None:
    """A full mailbox has enough of the kind, and a dead actor needs none."""
    with contextlib.suppress(MailboxFull, ActorDied):
        ref.tell_nowait(message)


def reachable(url: str) -> str:
    """`url` with this machine's name in place of an address that means all of its interfaces."""
    return url.replace("//0.0.0.0:", f"//{socket.gethostname()}:").replace("//[::]:", f"//{socket.gethostname()}:")


def redis_url(settings: Settings) -> str:
    """Raises `ConfigError` where none was given."""
    if not settings.redis:
        raise ConfigError("say where Redis is: --redis redis://HOST:PORT, or LLMACTORS_REDIS")
    return settings.redis
