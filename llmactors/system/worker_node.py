"""A worker node: it claims requests from the ledger on Redis and drives models with them."""

from collections.abc import Sequence

import attrs
import trio

from llmactors.actors import ActorDied, ActorRef, ActorSpec, Tree
from llmactors.backends.build import ServedModel
from llmactors.backends.directory import ModelDirectory
from llmactors.batcher.messages import DrainBatcher
from llmactors.batcher.settings import BatcherSettings
from llmactors.cluster.node_record import ModelReport, NodeLoad, NodeRecord, Role
from llmactors.config import Settings
from llmactors.gateway.actor import OperatorsActor
from llmactors.gateway.operators import OperatedNode
from llmactors.http.server import ListeningSocket
from llmactors.system import wiring
from llmactors.system.cluster_node import ClusterNode, reachable
from llmactors.system.model_actors import model_actors
from llmactors.telemetry.tree import LoggingObserver, fill_mailbox_gauges

_BEATS_PER_LEASE = 3


class WorkerNode(ClusterNode):
    """Serves `models`, and its metrics and health on `listening` where that is given."""

    role = Role.WORKER

    def __init__(self, settings: Settings, models: Sequence[ServedModel], listening: ListeningSocket | None) -> None:
        super().__init__(settings)
        self.listening = listening
        self.directory = ModelDirectory(tuple(model.name for model in models))
        self.directory.on_change = self._renew
        made = model_actors(
            settings,
            models,
            ledger=self.ledger,
            directory=self.directory,
            metrics=self.metrics,
            batching=BatcherSettings(
                window_s=settings.batch_window_s, beat_every_s=min(1.0, settings.lease_s / _BEATS_PER_LEASE)
            ),
        )
        self._batchers = made.batchers
        infra = self._infra()
        if listening is not None:
            node = OperatedNode(
                problems=self.problems,
                tree=self.statistics,
                metrics=self.metrics,
                directory=self.directory,
                draining=lambda: self.draining,
            )
            infra.append(ActorSpec("operators", lambda: OperatorsActor(node, listening), grace_s=0.5))
        root = wiring.node_of(infra, (made.backends, *made.batchers))
        self.tree = Tree(root, observer=LoggingObserver(self.metrics))
        self.metrics.on_scrape(lambda: fill_mailbox_gauges(self.tree, self.metrics))

    def problems(self) -> dict[str, str]:
        """What keeps this node from working, by component; empty when it is ready."""
        found = self.directory.problems()
        if not self.ledger_is_up():
            found["ledger"] = "the ledger is away"
        if self.draining:
            found["worker"] = "draining"
        return found

    def _describe(self, record: NodeRecord) -> NodeRecord:
        known = self.directory.items()
        slots = sum(status.capabilities.slots for _, status in known if status.capabilities is not None)
        return attrs.evolve(
            record,
            address="" if self.listening is None else reachable(self.listening.url),
            models=tuple(ModelReport(name, status.state, status.capabilities, status.detail) for name, status in known),
            load=NodeLoad(running=sum(self.directory.running.values()), slots=slots),
        )

    async def _drain(self) -> None:
        async with trio.open_nursery() as nursery:
            for batcher in self._batchers:
                nursery.start_soon(_drain_batcher, batcher.ref)

    def _close(self) -> None:
        if self.listening is not None:
            self.listening.close()


async def _drain_batcher(batcher: ActorRef) -> None:
    try:
        await batcher.ask(DrainBatcher())
    except ActorDied:
        await batcher.ask(DrainBatcher())  # it crashed just then: its successor must not claim
