"""The actor that reads the records of all nodes, for a gateway."""

import structlog
import trio

from llmactors.actors import Actor, Context
from llmactors.cluster.known_models import SERVED_S, KnownModel, KnownModels
from llmactors.cluster.models import ClusterModels
from llmactors.cluster.node_record import RENEW_EVERY_S, Role
from llmactors.cluster.node_store import NodeStore
from llmactors.errors import Unavailable
from llmactors.redislink.errors import reason_of

log = structlog.get_logger("llmactors.cluster")

_READ_S = 2.0


class WatcherActor(Actor):
    """Updates `models` before the actor is up, and then every second. While Redis is away, `models` do not change.

    The first update begins with the models for which the other gateways accept requests.
    """

    def __init__(self, store: NodeStore, known: KnownModels, models: ClusterModels) -> None:
        self._store = store
        self._known = known
        self._models = models
        self._noted: list[KnownModel] = []
        self._note_at = 0.0

    async def on_start(self, context: Context) -> None:
        await self._update()
        context.spawn(self._watch)

    async def _watch(self) -> None:
        while True:
            await trio.sleep(RENEW_EVERY_S)
            await self._update()

    async def _update(self) -> None:
        before = {name: status.state for name, status in self._models.items()}
        try:
            with trio.move_on_after(_READ_S):
                records = await self._store.records()
                if not records:
                    return  # Redis has just started, and not even this gateway has renewed its record yet
                self._models.records = records
                if not self._models.first_look.is_taken:
                    self._models.inherit(await self._known.served())
                workers = [record for record in records if record.role is Role.WORKER]
                self._models.update(workers, trio.current_time(), await self._known.read())
                gateways = [record for record in records if record.role is Role.GATEWAY]
                self._models.gateways = len(gateways)
                self._models.first_gateway = min([each.name for each in gateways if not each.draining], default="")
                await self._note_served()
        except Unavailable as error:
            self._models.first_look.failed()
            log.debug("the nodes' records were not read because Redis is away", error=reason_of(error))
        for name, status in self._models.items():
            if before.get(name) is not status.state:
                log.info("the state of a model changed", model=name, state=status.state.value, detail=status.detail)

    async def _note_served(self) -> None:
        """Tells gateways that start later for which models this one accepts requests."""
        served = self._models.served
        if served == self._noted and trio.current_time() < self._note_at:
            return
        await self._known.note_served(served)
        self._noted, self._note_at = served, trio.current_time() + SERVED_S / 4
