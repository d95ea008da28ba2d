"""A worker node: it claims requests from the ledger on Redis and drives models with them."""

import contextlib
from collections.abc import Sequence

import attrs
import structlog
import trio

from llmactors.actors import ActorDied, ActorSpec, MailboxFull
from llmactors.backends.build import ServedModel
from llmactors.batcher.messages import CordonChanged, DrainBatcher
from llmactors.batcher.settings import BatcherSettings
from llmactors.cluster.known_models import KnownModel
from llmactors.cluster.node_record import NodeRecord, Role
from llmactors.cluster.peers import Peers, PeersActor
from llmactors.config import Settings
from llmactors.errors import ClientError
from llmactors.gateway.actor import OperatorsActor
from llmactors.gateway.client_rules import ClientRules, served_hosts
from llmactors.gateway.operators import OperatedNode
from llmactors.http.server import ListeningSocket
from llmactors.system import wiring
from llmactors.system.cluster_node import ClusterNode, ask_through_crash, reachable
from llmactors.system.drills import kill_model
from llmactors.system.history_sampler import HistorySampler
from llmactors.system.model_actors import model_actors, model_directory
from llmactors.system.node_reports import model_reports, worker_load
from llmactors.telemetry.token_rates import TokenRates

log = structlog.get_logger("llmactors")

_BEATS_PER_LEASE = 3
"""Two heartbeats in a row may be lost before the worker's lease ends."""


class WorkerNode(ClusterNode):
    """Serves `models` to the gateways. The operators' routes are served on `listening`, unless that is None."""

    role = Role.WORKER

    def __init__(self, settings: Settings, models: Sequence[ServedModel], listening: ListeningSocket | None) -> None:
        super().__init__(settings)
        self.listening = listening
        self.directory = model_directory(models)
        self.directory.on_change = self._renew
        self._rates = TokenRates(self.metrics)
        peers = Peers(self.name, self._known_models)
        made = model_actors(
            settings,
            models,
            ledger=self.ledger,
            directory=self.directory,
            metrics=self.metrics,
            batching=BatcherSettings(
                window_s=settings.batch_window_s,
                node=self.name,
                preempt_every_s=wiring.preempt_every_s(settings),
                beat_every_s=min(1.0, settings.lease_s / _BEATS_PER_LEASE),
            ),
            others=peers,
            tracer=self.tracing.tracer,
            takes_work=lambda: not (self.draining or self.cordoned),
        )
        self._batchers = made.batchers
        self._backends = made.made
        peers_actor = ActorSpec(
            "peers", lambda: PeersActor(peers, self._store, self._known_models, self._declared_models)
        )
        infra = (
            *self._infra(self._rates.run, HistorySampler(self.history, lambda: [self.record]).run),
            self._registration,
            *self._operators(),
            *((peers_actor,) if settings.models or any(model.has_upstreams for model in models) else ()),
        )
        self.tree = wiring.node_tree(infra=infra, serving=made.all, metrics=self.metrics, restarts=self.restarts)

    def _kill(self, model: str) -> None:
        if not self.settings.drills:
            log.warning("a drill is refused: this worker runs without the setting `drills`", model=model)
            return
        log.warning("a drill kills the process of a model", model=model)
        try:
            kill_model(self._backends, model)
        except ClientError as error:
            log.warning("a drill did not find a process to kill", model=model, error=error.message)

    def problems(self) -> dict[str, str]:
        """What keeps this node from working, by component; empty when the node is ready."""
        found = self.directory.problems()
        if not self.ledger_is_up():
            found["ledger"] = "the ledger is away"
        if self.draining:
            found["worker"] = "draining"
        elif self.cordoned:
            found["worker"] = self.cordon_text
        return found

    def _operators(self) -> tuple[ActorSpec, ...]:
        listening = self.listening
        if listening is None:
            return ()
        node = OperatedNode(
            problems=self.problems,
            tree=self.statistics,
            metrics=self.metrics,
            directory=self.directory,
            draining=lambda: self.draining or self.cordoned,
            name=self.name,
            records=lambda: [self.record],
            history=self.history,
            restarts=self.restarts,
        )
        rules = ClientRules(served_hosts(self.settings.allowed_hosts, self.settings.metrics_bind))
        return (ActorSpec("operators", lambda: OperatorsActor(node, listening, rules), grace_s=0.5),)

    def _describe(self, record: NodeRecord) -> NodeRecord:
        return attrs.evolve(
            record,
            address="" if self.listening is None else reachable(self.listening.url),
            models=model_reports(self.directory, self._rates, self.settings.models),
            load=worker_load(self.directory, self.metrics),
        )

    def _declared_models(self) -> list[KnownModel]:
        declared = [(name, status) for name, status in self.directory.items() if name in self.settings.models]
        return [KnownModel(name, status.capabilities) for name, status in declared]

    async def _drain(self) -> None:
        async with trio.open_nursery() as nursery:
            for batcher in self._batchers:
                nursery.start_soon(ask_through_crash, batcher.ref, DrainBatcher())

    def _cordon_changed(self) -> None:
        for batcher in self._batchers:
            with contextlib.suppress(MailboxFull, ActorDied):  # a batcher looks at the cordon with every message
                batcher.ref.tell_nowait(CordonChanged())

    def _close(self) -> None:
        if self.listening is not None:
            self.listening.close()
