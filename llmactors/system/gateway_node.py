"""A gateway node: it admits requests into the ledger on Redis and follows their logs for its clients."""

import contextlib
import math
from typing import Any

import attrs
import structlog
import trio

from llmactors.access.keys.keyring import RedisKeyring
from llmactors.access.keys.redis import RedisKeyStore
from llmactors.access.sessions import RedisSessions
from llmactors.access.tickets import RedisTickets
from llmactors.actors import ActorSpec
from llmactors.backends.base import Capabilities
from llmactors.cluster.models import ClusterModels
from llmactors.cluster.node_record import NodeLoad, NodeRecord, Role
from llmactors.cluster.watcher import WatcherActor
from llmactors.config import KEYS_IN_REDIS, Settings
from llmactors.errors import ConfigError
from llmactors.gateway.actor import DrainGateway
from llmactors.gateway.limit_check import LimitCheck
from llmactors.gateway.operating.drills import Drills
from llmactors.gateway.operating.open_connections import OpenConnections
from llmactors.gateway.queue_hint import QueueHint
from llmactors.http.held_server import HeldSocket
from llmactors.http.server import ListeningSocket
from llmactors.ledger.actor import ReaperActor
from llmactors.limiter import LimiterStore
from llmactors.limiter.actor import LimiterActor
from llmactors.redislink.call import Call
from llmactors.redislink.errors import ReplyError
from llmactors.system import gateway_actors, wiring
from llmactors.system.cluster_node import ClusterNode, ask_through_crash, reachable
from llmactors.system.drills import crash_of, worker_of
from llmactors.system.history_sampler import HistorySampler
from llmactors.system.standby import StandbyActor

log = structlog.get_logger("llmactors")


class GatewayNode(ClusterNode):
    """Serves the models of all workers of the cluster to clients on `listening`."""

    role = Role.GATEWAY

    def __init__(self, settings: Settings, listening: ListeningSocket) -> None:
        super().__init__(settings)
        self._redis_keys: RedisKeyring | None = None
        self._warned_of_keys = False
        self._open_streams: set[trio.CancelScope] = set()
        if settings.keys == KEYS_IN_REDIS:
            self._redis_keys = RedisKeyring(RedisKeyStore(self._link.call, settings.namespace))
        keyring = self._redis_keys or gateway_actors.file_keyring(settings)
        self.listening = listening
        self.models = ClusterModels(settings.worker_grace_s, settings.known_model_s, _foreseen(settings))
        share = LimiterStore()
        limiter = ActorSpec("limiter", lambda: LimiterActor(share, gateways=lambda: self.models.gateways))
        bounds = self.ledger.settings
        self._gateway = gateway_actors.gateway(
            self.live,
            listening,
            ledger=self.ledger,
            directory=self.models,
            metrics=self.metrics,
            tree=self.statistics,
            ledger_is_up=self.ledger_is_up,
            ledger_is_whole=self.ledger_is_whole,
            keyring=keyring,
            name=self.name,
            records=lambda: self.models.records,
            history=self.history,
            drills=self._drills if settings.drills else None,
            restarts=self.restarts,
            tickets=RedisTickets(self._link.call, settings.namespace),
            sessions=RedisSessions(self._link.call, settings.namespace),
            limit_check=LimitCheck(gateway_actors.rate_policy(settings), limiter.ref, self.ledger_is_up),
            cordon=lambda: self.cordon_text,
            cordons=self._store,
            open_streams=self._open_streams,
            queue_hint=QueueHint(bounds.max_queued, bounds.max_queued_bytes, self.ledger.statistics),
            # One gateway shows the ledger's figures. Every gateway reads the same directory, and chooses the same one.
            tracer=self.tracing.tracer,
            placement=self.shards.placement,
            wait_up=self.wait_up,
            shows_ledger=lambda: self.models.first_gateway in {"", self.name},
        )
        history = HistorySampler(self.history, lambda: self.models.records, self.ledger.statistics)
        observers = self._observers(history.run)
        keys = gateway_actors.keys(keyring)
        reaper = ActorSpec("reaper", lambda: ReaperActor(self.ledger, count_given_up=self.metrics.request_given_up))
        watcher = ActorSpec("directory watcher", lambda: WatcherActor(self._store, self._known_models, self.models))
        if isinstance(listening, HeldSocket):
            link = listening.link
            standby = ActorSpec(
                "standby",
                lambda: StandbyActor(link, self.ledger.now_ms, self._refresh, self.wait_up),
                start_s=math.inf,
            )
            # A gateway in waiting only reads, and measures nothing, so that waiting costs little. It joins the cluster
            # when it gets the connections of the one before.
            infra: tuple[ActorSpec, ...] = (*self._links(), *keys, watcher)
            joining: tuple[ActorSpec, ...] = (standby, *observers, self._registration, reaper)
        else:
            infra = (*self._links(), *observers, self._registration, *keys, reaper, watcher)
            joining = ()
        self.tree = wiring.node_tree(
            infra=infra,
            http=(limiter, self._gateway),
            joining=joining,
            metrics=self.metrics,
            restarts=self.restarts,
        )

    @property
    def _drills(self) -> Drills:
        async def kill(model: str) -> str:
            worker = worker_of(self.models.records, model)
            await self._store.ask_to_kill(worker.name, model)
            return worker.name

        return Drills(OpenConnections(), kill, lambda path: crash_of(self.tree, path))

    def _describe(self, record: NodeRecord) -> NodeRecord:
        load = NodeLoad(followed_streams=len(self._open_streams), loop_stall_s=self.metrics.worst_stall_s)
        return attrs.evolve(record, address=reachable(self.listening.url), load=load)

    async def _subscribe(self, call: Call) -> None:
        await super()._subscribe(call)
        if self._redis_keys is not None:
            await call("SUBSCRIBE", self._redis_keys.channel)
        elif self.settings.keys is None and not self._warned_of_keys:
            await self._warn_of_unused_keys(RedisKeyStore(call, self.settings.namespace))

    async def _warn_of_unused_keys(self, store: RedisKeyStore) -> None:
        """Warns where Redis holds API keys and this gateway asks for none: an operator who made keys expects them to be
        asked for.
        """
        with contextlib.suppress(ReplyError):  # this Redis user may not read the keys, or the name holds another type
            self._warned_of_keys = bool(await store.mark())
        if self._warned_of_keys:
            admits = "callers with the single API key" if self.settings.api_key else "every caller"
            log.warning("Redis holds API keys, but this gateway does not use them: add --keys redis", admits=admits)

    def _on_push(self, push: list[Any]) -> None:
        if self._redis_keys is None or not self._redis_keys.on_push(push):
            super()._on_push(push)

    def _refresh(self) -> None:
        if self.live.reread is not None:
            with contextlib.suppress(ConfigError):  # the next reload says what is wrong
                self.live.reload()

    async def _drain(self) -> None:
        await ask_through_crash(self._gateway.ref, DrainGateway(self.settings.drain_s))

    def _close(self) -> None:
        self.listening.close()


def _foreseen(settings: Settings) -> dict[str, Capabilities | None]:
    """The models that this gateway's own settings declare, each with what it can probably do."""
    if not settings.models:
        return {}
    # Imported here, because no other gateway needs the backends, whose import delays the start.
    from llmactors.backends.build import foresee_models  # noqa: PLC0415

    return foresee_models(settings)
