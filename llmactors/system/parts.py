"""What all trees are made of."""

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import structlog

from llmactors.actors import Actor, ActorSpec, Context, Exit, Observer, Strategy, SupervisorSpec, Tree
from llmactors.actors.shutdown import PhaseReport
from llmactors.backends.actor import BackendActor, HealthSettings
from llmactors.backends.base import Backend
from llmactors.backends.directory import ModelDirectory
from llmactors.batcher.actor import BatcherActor, BatcherSettings
from llmactors.config import Settings, parse_rate
from llmactors.gateway.actor import GatewayActor
from llmactors.gateway.app import App
from llmactors.gateway.attempts import FailedAttempts
from llmactors.gateway.auth import Authenticator
from llmactors.gateway.connection import ConnectionSettings
from llmactors.gateway.health import TreeSource
from llmactors.gateway.pump import Pace
from llmactors.gateway.server import ListeningSocket, ServerSettings
from llmactors.gateway.service import Service, ServiceSettings
from llmactors.gateway.tickets import Tickets
from llmactors.keys.actor import KeysActor
from llmactors.keys.keyring import FileKeyring, Keyring
from llmactors.ledger import Ledger, LedgerSettings
from llmactors.limiter import LimiterStore, RateKind, RatePolicy
from llmactors.limiter.actor import LimiterActor
from llmactors.telemetry import Metrics, watch_event_loop

log = structlog.get_logger("llmactors")

KEYS_IN_REDIS = "redis"
"""For the setting `keys`."""


@attrs.frozen
class ServedModel:
    """One model and how to make its backend, as often as it must be made."""

    name: str
    make: Callable[[], Backend]


@attrs.frozen
class Workshop:
    """The actors that serve models."""

    backends: SupervisorSpec
    batchers: tuple[ActorSpec, ...]


def workshop(
    settings: Settings,
    models: Sequence[ServedModel],
    *,
    ledger: Ledger,
    directory: ModelDirectory,
    metrics: Metrics,
    batching: BatcherSettings,
) -> Workshop:
    """A backend and a batcher for each model."""
    health = HealthSettings(stalled_s=settings.stalled_s, hung_s=settings.hung_s)
    backends: list[ActorSpec] = []
    batchers: list[ActorSpec] = []
    for model in models:
        backend, batcher = _pair(model, ledger, directory, metrics, batching, health)
        backends.append(backend)
        batchers.append(batcher)
    # A backend that cannot be mended is tried for ever, every few seconds; meanwhile the others serve.
    supervised = SupervisorSpec("backends", tuple(backends), intensity=30 * len(backends), period_s=60.0)
    return Workshop(supervised, tuple(batchers))


def _pair(
    model: ServedModel,
    ledger: Ledger,
    directory: ModelDirectory,
    metrics: Metrics,
    batching: BatcherSettings,
    health: HealthSettings,
) -> tuple[ActorSpec, ActorSpec]:
    batcher = ActorSpec(
        f"batcher:{model.name}",
        lambda: BatcherActor(
            model.name, backend=backend.ref, ledger=ledger, directory=directory, settings=batching, metrics=metrics
        ),
        # Short: it waits only for a ledger that is away, and its drain has waited for that already.
        grace_s=1.0,
        cleanup_s=2.0,
    )
    backend = ActorSpec(
        model.name,
        lambda: BackendActor(model.make, batcher.ref, health),
        start_s=600.0,  # a large model is read from a slow disk
        cleanup_s=10.0,
    )
    return backend, batcher


def gateway(
    settings: Settings,
    listening: ListeningSocket,
    *,
    ledger: Ledger,
    directory: ModelDirectory,
    metrics: Metrics,
    tree: TreeSource,
    ledger_is_up: Callable[[], bool] = lambda: True,
    keyring: Keyring | None = None,
    tickets: Tickets | None = None,
    limiter: ActorSpec | None = None,
) -> ActorSpec:
    """The front."""
    # These outlive the gateway's incarnations: a crash opens the doors to nobody, and closes them to nobody.
    auth = Authenticator(
        settings.api_key, keyring=keyring, tickets=tickets, attempts=FailedAttempts(settings.max_auth_failures)
    )

    def make() -> GatewayActor:
        server = ServerSettings(
            max_message_bytes=settings.max_body_bytes, connection=ConnectionSettings(write_s=settings.write_s)
        )
        return GatewayActor(make_app, listening, server)

    def make_app() -> tuple[App, Service]:
        service = Service(
            ServiceSettings(
                max_body_bytes=settings.max_body_bytes,
                resume_grace_s=settings.resume_grace_s,
                background_s=settings.background_s,
                pace=Pace(flush_interval_s=settings.flush_interval_s, keep_alive_s=settings.keep_alive_s),
            ),
            ledger=ledger,
            directory=directory,
            metrics=metrics,
            ledger_is_up=ledger_is_up,
            limiter=None if limiter is None else limiter.ref,
        )
        app = App(service, auth, tree, access_log=settings.access_log, allowed_origins=settings.allowed_origins)
        return app, service

    return ActorSpec("gateway", make, grace_s=0.5)


def ledger_settings(settings: Settings) -> LedgerSettings:
    """The ledger's bounds, which all nodes of a cluster should agree on."""
    return LedgerSettings(
        max_queued=settings.max_queued,
        retention_s=settings.retention_s,
        lease_s=settings.lease_s,
        quarantine_from_attempt=settings.quarantine_from_attempt,
    )


def file_keyring(settings: Settings) -> FileKeyring | None:
    """None where no key file is set. Raises `KeyStoreError` where it cannot be read."""
    return None if settings.keys in {None, KEYS_IN_REDIS} else FileKeyring(Path(str(settings.keys)))


def keys_of(keyring: Keyring | None) -> list[ActorSpec]:
    """What keeps the keys up to date, where there are any."""
    return [] if keyring is None else [ActorSpec("keys", lambda: KeysActor(keyring))]


def limiter(
    settings: Settings, *, ledger_is_up: Callable[[], bool] = lambda: True, gateways: Callable[[], int] = lambda: 1
) -> ActorSpec | None:
    """None where nothing can be limited. `gateways` says how many of them share the limits."""
    rate, share = _rate(settings), LimiterStore()
    if rate is None and settings.keys is None:
        return None
    return ActorSpec("limiter", lambda: LimiterActor(rate, share, ledger_is_up=ledger_is_up, gateways=gateways))


def _rate(settings: Settings) -> RatePolicy | None:
    """None where no limit is set."""
    rate = parse_rate(settings.rate_limit)
    if rate is None:
        return None
    amount, period_s = rate
    return RatePolicy(kind=RateKind(settings.rate_algorithm), amount=amount, period_s=period_s)


def node_of(infra: Sequence[ActorSpec], serving: Sequence[ActorSpec | SupervisorSpec]) -> SupervisorSpec:
    """The tree's root: what serves starts after what it stands on, and with it again."""
    return SupervisorSpec(
        "node",
        (SupervisorSpec("infra", tuple(infra)), SupervisorSpec("serving", tuple(serving), intensity=5, period_s=30.0)),
        strategy=Strategy.REST_FOR_ONE,
        intensity=3,
        period_s=60.0,
    )


def fill_mailbox_gauges(tree: Tree, metrics: Metrics) -> None:
    """To be called at each scrape."""
    for actor in tree.actors():
        mailbox = actor.spec.ref.mailbox.statistics()
        metrics.mailbox(actor.path, depth=mailbox.depth, peak=mailbox.peak)


def log_phases(reports: Sequence[PhaseReport]) -> None:
    """One line for each phase of a shutdown."""
    for report in reports:
        log.info("shutdown phase", phase=report.name, outcome=report.outcome, seconds=round(report.seconds, 3))


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
