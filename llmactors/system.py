"""The one place that wires a tree. `python -m llmactors tree` prints what it wired."""

from collections.abc import Callable, Sequence

import attrs
import structlog
import trio

from llmactors.actors import (
    Actor,
    ActorSpec,
    Context,
    Exit,
    Observer,
    Phase,
    Strategy,
    SupervisorSpec,
    Tree,
    run_phases,
)
from llmactors.backends.actor import BackendActor, HealthSettings
from llmactors.backends.base import Backend
from llmactors.backends.directory import ModelDirectory
from llmactors.batcher.actor import BatcherActor, BatcherSettings
from llmactors.config import Settings, parse_rate
from llmactors.gateway.actor import Drain, GatewayActor
from llmactors.gateway.app import App
from llmactors.gateway.auth import Authenticator
from llmactors.gateway.connection import ConnectionSettings
from llmactors.gateway.pump import Pace
from llmactors.gateway.server import ListeningSocket, ServerSettings
from llmactors.gateway.service import Service, ServiceSettings
from llmactors.ledger import LedgerSettings, MemoryLedger
from llmactors.ledger.actor import ReaperActor
from llmactors.limiter import LimiterStore, RateKind, RatePolicy
from llmactors.limiter.actor import LimiterActor
from llmactors.telemetry import Metrics, watch_event_loop

log = structlog.get_logger("llmactors")


@attrs.frozen
class ServedModel:
    """One model and how to make its backend, as often as it must be made."""

    name: str
    make: Callable[[], Backend]


class Node:
    """Everything in one process: gateway, limiter, batchers and backends, with the ledger in memory."""

    def __init__(self, settings: Settings, models: Sequence[ServedModel], listening: ListeningSocket) -> None:
        self.settings = settings
        self.listening = listening
        self.metrics = Metrics()
        self.ledger = MemoryLedger(LedgerSettings(max_queued=settings.max_queued, retention_s=settings.retention_s))
        self.directory = ModelDirectory(tuple(model.name for model in models))
        self._limiter = _limiter(settings)
        self._gateway = ActorSpec("gateway", self._make_gateway, grace_s=0.5)
        self.tree = Tree(self._specs(models), observer=LoggingObserver(self.metrics))
        self.metrics.on_scrape(self._fill_gauges)
        self._started = False

    def __repr__(self) -> str:
        return f"<Node {self.listening.url} {self.tree!r}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until `shut_down`, a cancel, or a failure that supervision could not mend, which it raises."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.tree.run)
                self._started = True
                task_status.started()
        finally:
            self.listening.close()

    async def shut_down(self) -> None:
        """An orderly end: unbind and drain, stop in reverse. `run` returns after it."""
        if not self._started:
            self.tree.stop()
            return
        drain_s = self.settings.drain_s
        reports = await run_phases(
            [
                # A gateway that is down drains nothing: what is queued for it must not hold up the end.
                Phase("drain", lambda: self._gateway.ref.ask(Drain(drain_s)), limit_s=drain_s + 2),
                Phase("stop", self._stop),
            ],
            overall_s=drain_s + 5,
        )
        for report in reports:
            log.info("shutdown phase", phase=report.name, outcome=report.outcome, seconds=round(report.seconds, 3))

    async def _stop(self) -> None:
        self.tree.stop()

    def _specs(self, models: Sequence[ServedModel]) -> SupervisorSpec:
        infra = SupervisorSpec(
            "infra",
            (
                ActorSpec("ledger", lambda: ReaperActor(self.ledger)),
                ActorSpec("telemetry", lambda: TelemetryActor(self.metrics)),
            ),
        )
        batchers: list[ActorSpec] = []
        backends: list[ActorSpec] = []
        for model in models:
            backend, batcher = self._pair(model)
            backends.append(backend)
            batchers.append(batcher)
        # A backend that cannot be mended is tried for ever, every few seconds; meanwhile the others serve.
        supervised = SupervisorSpec("backends", tuple(backends), intensity=30 * len(backends), period_s=60.0)
        front = [spec for spec in (self._limiter, self._gateway) if spec is not None]
        serving = SupervisorSpec("serving", (supervised, *batchers, *front), intensity=5, period_s=30.0)
        return SupervisorSpec("node", (infra, serving), strategy=Strategy.REST_FOR_ONE, intensity=3, period_s=60.0)

    def _pair(self, model: ServedModel) -> tuple[ActorSpec, ActorSpec]:
        settings = self.settings
        health = HealthSettings(stalled_s=settings.stalled_s, hung_s=settings.hung_s)
        batcher = ActorSpec(
            f"batcher:{model.name}",
            lambda: BatcherActor(
                model.name,
                backend=backend.ref,
                ledger=self.ledger,
                directory=self.directory,
                settings=BatcherSettings(window_s=settings.batch_window_s),
                metrics=self.metrics,
            ),
        )
        backend = ActorSpec(
            model.name,
            lambda: BackendActor(model.make, batcher.ref, health),
            start_s=600.0,  # a large model is read from a slow disk
            cleanup_s=10.0,
        )
        return backend, batcher

    def _make_gateway(self) -> GatewayActor:
        settings = self.settings
        service_settings = ServiceSettings(
            max_body_bytes=settings.max_body_bytes,
            resume_grace_s=settings.resume_grace_s,
            pace=Pace(flush_interval_s=settings.flush_interval_s, keep_alive_s=settings.keep_alive_s),
        )
        server = ServerSettings(
            max_message_bytes=settings.max_body_bytes, connection=ConnectionSettings(write_s=settings.write_s)
        )

        def make_app() -> tuple[App, Service]:
            service = Service(
                service_settings,
                ledger=self.ledger,
                limiter=None if self._limiter is None else self._limiter.ref,
                directory=self.directory,
                metrics=self.metrics,
            )
            auth = Authenticator(settings.api_key)
            return App(service, auth, self.tree.statistics, access_log=settings.access_log), service

        return GatewayActor(make_app, self.listening, server)

    def _fill_gauges(self) -> None:
        for actor in self.tree.actors():
            mailbox = actor.spec.ref.mailbox.statistics()
            self.metrics.mailbox(actor.path, depth=mailbox.depth, peak=mailbox.peak)


class TelemetryActor(Actor):
    """Watches the event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def on_start(self, context: Context) -> None:
        context.spawn(watch_event_loop, self._metrics.event_loop_late)


class LoggingObserver(Observer):
    """One log line and one metric for whatever happens in the tree."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def actor_started(self, actor: str, incarnation: int) -> None:
        self._metrics.actor_started(actor)
        log.debug("actor started", actor=actor, incarnation=incarnation)

    def restarting(
        self, supervisor: str, children: tuple[str, ...], exit_: Exit, *, delay_s: float, count: int, intensity: int
    ) -> None:
        for child in children:
            self._metrics.actor_restarted(f"{supervisor}/{child}")
        log.warning(
            "restarting",
            supervisor=supervisor,
            children=list(children),
            cause=str(exit_),
            delay_s=round(delay_s, 3),
            restarts=f"{count}/{intensity}",
        )

    def gave_up(self, supervisor: str, child: str, exit_: Exit) -> None:
        log.error("gave up", supervisor=supervisor, child=child, cause=str(exit_))

    def dead_letter(self, actor: str, reason: str, message_type: str, cause: str) -> None:
        self._metrics.dead_letter(reason)
        log.info("dead letter", actor=actor, reason=reason, message=message_type, cause=cause)


def _limiter(settings: Settings) -> ActorSpec | None:
    rate = parse_rate(settings.rate_limit)
    if rate is None:
        return None
    requests, period_s = rate
    policy = RatePolicy(kind=RateKind(settings.rate_algorithm), requests=requests, period_s=period_s)
    store = LimiterStore()
    return ActorSpec("limiter", lambda: LimiterActor(policy, store))
