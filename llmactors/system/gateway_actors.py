"""Builds the gateway of a node, and the actor that keeps API keys up to date, from the settings."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog
import trio

from llmactors.access.attempts import FailedAttempts
from llmactors.access.authentication import STRONG_CHARS, Authenticator, is_strong
from llmactors.access.keys.actor import KeysActor
from llmactors.access.keys.keyring import FileKeyring, Keyring
from llmactors.access.sessions import MemorySessions, Sessions
from llmactors.access.tickets import Tickets
from llmactors.actors import ActorSpec
from llmactors.backends.directory import ModelDirectory
from llmactors.cluster.cordon import Cordons
from llmactors.cluster.node_record import NodeRecord
from llmactors.config import KEYS_IN_REDIS, LiveSettings, Settings, parse_rate
from llmactors.gateway.access_log import AccessLog
from llmactors.gateway.actor import GatewayActor
from llmactors.gateway.app import App
from llmactors.gateway.client_rules import ClientRules, served_hosts
from llmactors.gateway.limit_check import LimitCheck
from llmactors.gateway.operating.drills import Drills
from llmactors.gateway.operators import OperatedNode, TreeSource
from llmactors.gateway.queue_hint import QueueHint
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.settings import GatewaySettings
from llmactors.gateway.streaming.pump import StreamTiming
from llmactors.http.connection import ConnectionSettings
from llmactors.http.forwarded import TrustedProxies
from llmactors.http.server import ListeningSocket, ServerSettings
from llmactors.ledger import Ledger
from llmactors.ledger.sharded.placement import Placement
from llmactors.limiter import RateKind, RatePolicy
from llmactors.prices import Price
from llmactors.system.reloading import reload_settings
from llmactors.telemetry import Metrics
from llmactors.telemetry.history import LastHour
from llmactors.telemetry.restarts import RecentRestarts
from llmactors.telemetry.tracing.tracer import Tracer

log = structlog.get_logger("llmactors.system")


def gateway(
    live: LiveSettings,
    listening: ListeningSocket,
    *,
    ledger: Ledger,
    directory: ModelDirectory,
    metrics: Metrics,
    tree: TreeSource,
    ledger_is_up: Callable[[], bool] = lambda: True,
    ledger_is_whole: Callable[[], bool] = lambda: True,
    name: str,
    records: Callable[[], Sequence[NodeRecord]],
    history: LastHour,
    drills: Drills | None,
    restarts: RecentRestarts,
    keyring: Keyring | None = None,
    tickets: Tickets | None = None,
    sessions: Sessions | None = None,
    limit_check: LimitCheck,
    queue_hint: QueueHint | None = None,
    cordon: Callable[[], str],
    cordons: Cordons,
    open_streams: set[trio.CancelScope] | None = None,
    shows_ledger: Callable[[], bool] = lambda: True,
    tracer: Tracer | None = None,
    placement: Placement | None = None,
    wait_up: Callable[[], Awaitable[object]] | None = None,
) -> ActorSpec:
    """The gateway. `queue_hint` is for a ledger that is a round trip away; `cordon` and `open_streams` are those of
    `RequestService`, as are `tracer`, `placement` and `wait_up`. `shows_ledger`, `name`, `records`, `cordons`,
    `history`, `drills` and `restarts` are those of `OperatedNode`. A reload of `live` changes the limit on each caller,
    the prices and the allowed origins.
    """
    settings = live.settings
    # Tickets, sessions and counted attempts outlive the gateway's incarnations: a crash of the gateway forgets neither.
    auth = Authenticator(
        settings.api_key,
        keyring=keyring,
        tickets=tickets,
        sessions=sessions or MemorySessions(),
        attempts=FailedAttempts(settings.max_auth_failures),
    )

    if settings.api_key is not None and not is_strong(settings.api_key):
        log.warning(
            "the API key of this node can be guessed: use a longer one, as `openssl rand -hex 32` makes",
            characters=len(settings.api_key),
            at_least=STRONG_CHARS,
        )
    proxies = TrustedProxies(settings.trusted_proxies)
    rules = ClientRules(
        # A page that lets its name resolve to this node has no key.
        served_hosts(settings.allowed_hosts, settings.bind) if auth.is_open else None,
        allowed_origins=settings.allowed_origins,
        proxies=proxies,
    )
    access_log = AccessLog(ledger, enabled=settings.access_log)
    live.on_change(["allowed_origins"], lambda now: rules.allow_origins(now.allowed_origins))
    live.on_change(["access_log"], lambda now: access_log.enable(now.access_log))
    limit_check.set_prices(price_table(settings))
    live.on_change(["prices"], lambda now: limit_check.set_prices(price_table(now)))
    live.on_change(["rate_limit", "rate_algorithm"], lambda now: limit_check.set_rate(rate_policy(now)))

    def make() -> GatewayActor:
        server = ServerSettings(
            max_message_bytes=settings.max_body_bytes,
            connection=ConnectionSettings(write_s=settings.write_s),
            proxies=proxies,
        )
        return GatewayActor(make_app, listening, server)

    def make_app() -> tuple[App, RequestService]:
        service = RequestService(
            GatewaySettings(
                max_body_bytes=settings.max_body_bytes,
                max_image_body_bytes=settings.max_image_body_bytes,
                resume_grace_s=settings.resume_grace_s,
                background_s=settings.background_s,
                response_ttl_s=settings.response_ttl_s,
                timing=StreamTiming(flush_interval_s=settings.flush_interval_s, keep_alive_s=settings.keep_alive_s),
            ),
            ledger=ledger,
            directory=directory,
            metrics=metrics,
            ledger_is_up=ledger_is_up,
            ledger_is_whole=ledger_is_whole,
            limit_check=limit_check,
            queue_hint=queue_hint,
            tracer=tracer,
            placement=placement,
            wait_up=wait_up,
            auth=auth,
            cordon=cordon,
            open_streams=open_streams,
            access_log=access_log,
        )
        node = OperatedNode(
            problems=service.problems,
            tree=tree,
            metrics=metrics,
            directory=directory,
            draining=lambda: not service.takes_work,
            name=name,
            auth=auth,
            records=records,
            history=history,
            drills=drills,
            restarts=restarts,
            cordons=cordons,
            reload=lambda: reload_settings(live),
            known_ledger=ledger,
            ledger_statistics=service.ledger_statistics,
            queue_demand=service.queue_demand,
            shows_ledger=shows_ledger,
        )
        app = App(service, node, rules=rules)
        return app, service

    return ActorSpec("gateway", make, grace_s=0.5)


def file_keyring(settings: Settings) -> FileKeyring | None:
    """The keys of the file that the settings name; None where they name none. Raises `KeyStoreError`."""
    return None if settings.keys in {None, KEYS_IN_REDIS} else FileKeyring(Path(str(settings.keys)))


def keys(keyring: Keyring | None) -> list[ActorSpec]:
    """The actor that keeps the keys up to date; none where no key store is set."""
    return [] if keyring is None else [ActorSpec("keys", lambda: KeysActor(keyring))]


def price_table(settings: Settings) -> dict[str, Price]:
    """What the tokens of each model cost."""
    return {model: declared.price for model, declared in settings.prices.items()}


def rate_policy(settings: Settings) -> RatePolicy | None:
    """The node's own limit on each caller; None where no `rate_limit` is set."""
    rate = parse_rate(settings.rate_limit)
    if rate is None:
        return None
    amount, period_s = rate
    return RatePolicy(kind=RateKind(settings.rate_algorithm), amount=amount, period_s=period_s)
