"""A gateway node: it admits requests into the ledger on Redis and follows their logs for its clients."""

import contextlib
from typing import Any

import attrs
import structlog

from llmactors.access.keys.keyring import RedisKeyring
from llmactors.access.keys.redis import RedisKeyStore
from llmactors.access.tickets import RedisTickets
from llmactors.actors import ActorDied, ActorSpec, Tree
from llmactors.cluster.models import ClusterModels
from llmactors.cluster.node_record import NodeRecord, Role
from llmactors.cluster.watcher import WatcherActor
from llmactors.config import KEYS_IN_REDIS, Settings
from llmactors.gateway.actor import DrainGateway
from llmactors.gateway.limit_check import LimitCheck
from llmactors.gateway.queue_hint import QueueHint
from llmactors.http.server import ListeningSocket
from llmactors.ledger.actor import ReaperActor
from llmactors.limiter import LimiterStore
from llmactors.limiter.actor import LimiterActor
from llmactors.redislink import Call
from llmactors.redislink.errors import ReplyError
from llmactors.system import gateway_actors, wiring
from llmactors.system.cluster_node import ClusterNode, reachable
from llmactors.telemetry.tree import LoggingObserver, fill_mailbox_gauges

log = structlog.get_logger("llmactors")


class GatewayNode(ClusterNode):
    """Serves on `listening` whatever the cluster's workers serve."""

    role = Role.GATEWAY

    def __init__(self, settings: Settings, listening: ListeningSocket) -> None:
        super().__init__(settings)
        self._redis_keys: RedisKeyring | None = None
        self._told_of_keys = False
        if settings.keys == KEYS_IN_REDIS:
            self._redis_keys = RedisKeyring(RedisKeyStore(self._link.call, settings.namespace))
        keyring = self._redis_keys or gateway_actors.file_keyring(settings)
        self.listening = listening
        self.models = ClusterModels(settings.worker_grace_s)
        share = LimiterStore()
        limiter = ActorSpec("limiter", lambda: LimiterActor(share, gateways=lambda: self.models.gateways))
        bounds = self.ledger.settings
        self._gateway = gateway_actors.gateway(
            settings,
            listening,
            ledger=self.ledger,
            directory=self.models,
            metrics=self.metrics,
            tree=self.statistics,
            ledger_is_up=self.ledger_is_up,
            keyring=keyring,
            tickets=RedisTickets(self._link.call, settings.namespace),
            limit_check=LimitCheck(gateway_actors.rate_policy(settings), limiter.ref, self.ledger_is_up),
            queue_hint=QueueHint(bounds.max_queued, bounds.max_queued_bytes, self.ledger.statistics),
        )
        infra = [
            *self._infra(),
            *gateway_actors.keys_of(keyring),
            ActorSpec("reaper", lambda: ReaperActor(self.ledger)),
            ActorSpec("watcher", lambda: WatcherActor(self._store, self.models)),
        ]
        self.tree = Tree(wiring.node_of(infra, (limiter, self._gateway)), observer=LoggingObserver(self.metrics))
        self.metrics.on_scrape(lambda: fill_mailbox_gauges(self.tree, self.metrics))

    def _describe(self, record: NodeRecord) -> NodeRecord:
        return attrs.evolve(record, address=reachable(self.listening.url))

    async def _subscribe(self, call: Call) -> None:
        await super()._subscribe(call)
        if self._redis_keys is not None:
            await call("SUBSCRIBE", self._redis_keys.channel)
        elif self.settings.keys is None and not self._told_of_keys:
            await self._tell_of_unasked_keys(RedisKeyStore(call, self.settings.namespace))

    async def _tell_of_unasked_keys(self, store: RedisKeyStore) -> None:
        """Whoever made keys for this cluster means them to be asked for, and nothing else says that they are not."""
        with contextlib.suppress(ReplyError):  # who may not look at them, or finds something else there, goes without
            self._told_of_keys = bool(await store.mark())
        if self._told_of_keys:
            let_in = "whoever has its one key" if self.settings.api_key else "everybody"
            log.warning("there are API keys in Redis, but this gateway was not given --keys redis", lets_in=let_in)

    def _on_push(self, push: list[Any]) -> None:
        if self._redis_keys is None or not self._redis_keys.on_push(push):
            super()._on_push(push)

    async def _drain(self) -> None:
        drain = DrainGateway(self.settings.drain_s)
        try:
            await self._gateway.ref.ask(drain)
        except ActorDied:
            await self._gateway.ref.ask(drain)  # it crashed just then: its successor must not go on accepting

    def _close(self) -> None:
        self.listening.close()
