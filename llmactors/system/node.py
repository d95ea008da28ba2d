"""A server in one process: gateway, batchers and backends, with the ledger in memory."""

import math
import time
from collections.abc import Sequence

import attrs
import trio

from llmactors import __version__
from llmactors.actors import ActorSpec, Phase, SupervisorStatistics, run_phases
from llmactors.backends.build import ServedModel
from llmactors.batcher.settings import BatcherSettings
from llmactors.cluster.cordon import OwnCordon
from llmactors.cluster.node_record import NodeRecord, Role, new_incarnation
from llmactors.cluster.process_id import ProcessId
from llmactors.config import KEYS_IN_REDIS, LiveSettings, Settings
from llmactors.errors import ConfigError
from llmactors.gateway.actor import DrainGateway
from llmactors.gateway.limit_check import LimitCheck
from llmactors.gateway.operating.drills import Drills
from llmactors.gateway.operating.open_connections import OpenConnections
from llmactors.http.server import ListeningSocket
from llmactors.ledger import MemoryLedger
from llmactors.ledger.actor import ReaperActor
from llmactors.limiter import LimiterStore
from llmactors.limiter.actor import LimiterActor
from llmactors.system import gateway_actors, wiring
from llmactors.system.drills import crash_of, kill_model
from llmactors.system.history_sampler import HistorySampler
from llmactors.system.model_actors import model_actors, model_directory
from llmactors.system.node_reports import model_reports, worker_load
from llmactors.system.tracing import tracing
from llmactors.telemetry import Metrics
from llmactors.telemetry.history import LastHour
from llmactors.telemetry.restarts import RecentRestarts
from llmactors.telemetry.token_rates import TokenRates
from llmactors.telemetry.tree import TelemetryActor, log_phases


class Node:
    """A server in one process. `run` starts the node, and `url` is its address.

    Args:
        settings: The node's settings; the address is `settings.bind`, and port 0 chooses a free port.
        models: What to serve. The first model is the default of requests that name none.
        listening: A socket that is bound already. Without one the node binds `settings.bind` at once. Either way the
            socket is closed when `run` ends.

    Raises:
        ConfigError: A setting makes no sense in a single process.
        BindError: The address cannot be bound.
    """

    def __init__(
        self, settings: Settings, models: Sequence[ServedModel], listening: ListeningSocket | None = None
    ) -> None:
        if settings.keys == KEYS_IN_REDIS:
            raise ConfigError("`keys`: there is no Redis in a single process; give the path of a key file")
        keyring = gateway_actors.file_keyring(settings)
        self.settings = settings
        self.live = LiveSettings(settings)
        """The settings as they are after the last reload."""
        self.listening = listening or ListeningSocket(settings.bind)
        self.metrics = Metrics()
        self.tracing = tracing(settings, settings.name or "node", "node", self.metrics)
        # Batchers and ledger share one event loop: an actor's end is seen at once, and a late heartbeat means nothing.
        # Each model has one worker here, so no conversation prefers a worker.
        bounds = attrs.evolve(wiring.ledger_settings(settings), lease_s=math.inf, affinity_wait_s=0.0)
        self.ledger = MemoryLedger(bounds)
        self.directory = model_directory(models)
        self._open_streams: set[trio.CancelScope] = set()
        self._own_cordon = OwnCordon()
        self._rates = TokenRates(self.metrics)
        self.history, self.restarts = LastHour(), RecentRestarts()
        sampler = HistorySampler(self.history, lambda: [self.record], self.ledger.statistics)
        self._record = NodeRecord(
            name=settings.name or "node",
            role=Role.SINGLE,
            incarnation=new_incarnation(),
            process=ProcessId.own(),
            started_at=time.time(),
            version=__version__,
            address=self.listening.url,
        )
        made = model_actors(
            settings,
            models,
            ledger=self.ledger,
            directory=self.directory,
            metrics=self.metrics,
            tracer=self.tracing.tracer,
            batching=BatcherSettings(
                window_s=settings.batch_window_s, node="node", preempt_every_s=wiring.preempt_every_s(settings)
            ),
        )
        self._backends = made.made
        # The same actors run in both forms. The limiter is asked only while the ledger is away: never, in one process.
        share = LimiterStore()
        limiter = ActorSpec("limiter", lambda: LimiterActor(share, gateways=lambda: 1))
        self._gateway = gateway_actors.gateway(
            self.live,
            self.listening,
            ledger=self.ledger,
            directory=self.directory,
            metrics=self.metrics,
            tree=self.statistics,
            name=self.settings.name or "node",
            records=lambda: [self.record],
            open_streams=self._open_streams,
            history=self.history,
            drills=self._drills if settings.drills else None,
            restarts=self.restarts,
            cordon=self._cordon_text,
            cordons=self._own_cordon,
            tracer=self.tracing.tracer,
            keyring=keyring,
            limit_check=LimitCheck(gateway_actors.rate_policy(settings), limiter.ref),
        )
        self.tree = wiring.node_tree(
            infra=(
                ActorSpec("reaper", lambda: ReaperActor(self.ledger, count_given_up=self.metrics.request_given_up)),
                ActorSpec("telemetry", lambda: TelemetryActor(self.metrics, (self._rates.run, sampler.run))),
                *self.tracing.actors,
                *gateway_actors.keys(keyring),
            ),
            http=(limiter, self._gateway),
            serving=made.all,
            metrics=self.metrics,
            restarts=self.restarts,
        )
        self._started = False
        self._draining = False

    def __repr__(self) -> str:
        return f"<Node {self.listening.url} {self.tree!r}>"

    @property
    def url(self) -> str:
        """The address for clients, as in `http://127.0.0.1:8000`."""
        return self.listening.url

    def statistics(self) -> SupervisorStatistics:
        """A snapshot of the supervision tree."""
        return self.tree.statistics()

    @property
    def _drills(self) -> Drills:
        async def kill(model: str) -> str:
            kill_model(self._backends, model)
            return self._record.name

        return Drills(OpenConnections(), kill, lambda path: crash_of(self.tree, path))

    @property
    def record(self) -> NodeRecord:
        """What the node says of itself, in the form of a record of a cluster's node directory."""
        return attrs.evolve(
            self._record,
            draining=self._draining or self._own_cordon.present is not None,
            cordoned=self._own_cordon.present is not None,
            models=model_reports(self.directory, self._rates, self.settings.models),
            counts=self.metrics.counts(),
            load=worker_load(self.directory, self.metrics, len(self._open_streams)),
        )

    @property
    def ends_within_s(self) -> float:
        """The time that `shut_down` may take, in seconds."""
        return self.settings.drain_s + 5

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until `shut_down` or a cancel. Raises the failure that supervision could not mend.

        The node listens before its models are loaded: `/livez` answers then, `/readyz` names the models that start, and
        other requests get `UNAVAILABLE`. The start is complete when every actor is up.
        """
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.tree.run)
                self._started = True
                task_status.started()
        finally:
            self.listening.close()
            self.tracing.close()

    async def shut_down(self) -> None:
        """Stops accepting, lets open streams end for up to `drain_s` seconds, and stops all actors. Then `run` ends."""
        if not self._started:
            self.tree.stop()
            return
        self._draining = True
        drain_s = self.settings.drain_s
        # The phase has a limit because a gateway that is down answers nothing.
        drain = Phase("drain", lambda: self._gateway.ref.ask(DrainGateway(drain_s)), limit_s=drain_s + 2)
        log_phases(await run_phases([drain, Phase("stop", self._stop)], overall_s=self.ends_within_s))

    def _cordon_text(self) -> str:
        cordon = self._own_cordon.present
        return "" if cordon is None else cordon.describe(self._record.name)

    async def _stop(self) -> None:
        self.tree.stop()
