"""What a worker knows of the other workers, and what it tells the cluster of its own declared models."""

from collections.abc import Callable, Sequence

import structlog
import trio

from llmactors.actors import Actor, Context
from llmactors.backends.directory import ModelState
from llmactors.cluster.known_models import REMEMBER_EVERY_S, KnownModel, KnownModels
from llmactors.cluster.node_record import RENEW_EVERY_S, NodeRecord, Role
from llmactors.cluster.node_store import NodeStore
from llmactors.errors import Unavailable
from llmactors.redislink.errors import reason_of

log = structlog.get_logger("llmactors.cluster")

_CALL_S = 2.0
_SERVING = (ModelState.READY, ModelState.STALLED, ModelState.STARTING, ModelState.LOADING)
_HOPELESS = (ModelState.FAILED, ModelState.DOWN, ModelState.GONE)


class Peers:
    """The models of the other workers of the cluster, as of the last second. The object outlives the actor."""

    def __init__(self, node: str, known: KnownModels) -> None:
        self._node = node
        self._known = known
        self._serving: frozenset[str] = frozenset()
        self._hopeful: frozenset[str] = frozenset()
        self._ready: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<Peers of {self._node}: they serve {sorted(self._serving)}>"

    def update(self, workers: Sequence[NodeRecord]) -> None:
        """Takes the records of all workers."""
        others = [worker for worker in workers if worker.name != self._node and not worker.draining]
        reports = [report for worker in others for report in worker.models]
        self._serving = frozenset(report.name for report in reports if report.state in _SERVING)
        self._hopeful = frozenset(report.name for report in reports if report.state not in _HOPELESS)
        self._ready = frozenset(report.name for report in reports if report.state is ModelState.READY)

    def serving(self) -> frozenset[str]:
        """The models that other workers have in memory or load."""
        return self._serving

    def is_ready(self, model: str) -> bool:
        """Whether another worker has `model` in memory and works on requests."""
        return model in self._ready

    def may_serve(self, model: str) -> bool:
        """Whether another worker has `model`, or can load it as far as that worker knows."""
        return model in self._hopeful

    async def reserve(self, model: str, for_s: float) -> bool:
        """Reserves the load of `model` for this worker. False if another worker has reserved it a moment ago."""
        return await self._known.reserve(model, self._node, for_s)


class PeersActor(Actor):
    """Updates `peers` every second, and writes the models that `declared` returns every half minute and at a change."""

    def __init__(
        self,
        peers: Peers,
        store: NodeStore,
        known: KnownModels,
        declared: Callable[[], Sequence[KnownModel]],
    ) -> None:
        self._peers = peers
        self._store = store
        self._known = known
        self._declared = declared
        self._written: Sequence[KnownModel] = ()
        self._write_at = 0.0

    async def on_start(self, context: Context) -> None:
        context.spawn(self._repeat)

    async def _repeat(self) -> None:
        while True:
            try:
                with trio.move_on_after(_CALL_S):
                    self._peers.update(await self._store.records(Role.WORKER))
                    await self._write()
            except Unavailable as error:
                log.debug("the other workers are not known because Redis is away", error=reason_of(error))
            await trio.sleep(RENEW_EVERY_S)

    async def _write(self) -> None:
        declared = list(self._declared())
        if declared == self._written and trio.current_time() < self._write_at:
            return
        await self._known.remember(declared)
        self._written, self._write_at = declared, trio.current_time() + REMEMBER_EVERY_S
