"""The pages for orchestrators, scrapers and people who look after a node; a gateway and a worker serve the same."""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import attrs
import msgspec
from quart import Response, request

from llmactors.access.authentication import Authenticator
from llmactors.actors import SupervisorStatistics
from llmactors.backends.base import Capabilities
from llmactors.backends.directory import ModelDirectory, ModelState
from llmactors.cluster.cordon import Cordons, OwnCordon
from llmactors.cluster.node_record import NodeRecord
from llmactors.config import Reloaded
from llmactors.errors import ConfigError, NotFound, Unavailable
from llmactors.ledger import Ledger, LedgerStatistics, ModelDemand
from llmactors.telemetry import Metrics
from llmactors.telemetry.history import LastHour
from llmactors.telemetry.model_metrics import MODELS_MAX
from llmactors.telemetry.restarts import RecentRestarts

if TYPE_CHECKING:
    from llmactors.gateway.operating.drills import Drills

TreeSource = Callable[[], SupervisorStatistics]


def nothing_to_reload() -> Reloaded:
    """The `reload` of a node whose settings nobody can read again. Raises `ConfigError`."""
    raise ConfigError("this node cannot read its settings again")


@attrs.frozen(kw_only=True)
class OperatedNode:
    """A node as its operators see it."""

    problems: Callable[[], dict[str, str]]
    """What keeps the node from taking requests, by component. An empty dictionary means: the node is ready."""
    tree: TreeSource
    metrics: Metrics
    directory: ModelDirectory
    draining: Callable[[], bool]
    name: str = "node"
    auth: Authenticator = attrs.field(factory=lambda: Authenticator(None))
    """Says who calls, and keeps the sessions of operators."""
    records: Callable[[], Sequence[NodeRecord]] = lambda: ()
    """The newest records of all nodes of the cluster; of this node alone in a single process and on a worker."""
    history: LastHour = attrs.field(factory=LastHour)
    restarts: RecentRestarts = attrs.field(factory=RecentRestarts)
    cordons: Cordons = attrs.field(factory=OwnCordon)
    """The cordons of the cluster's nodes, or of this node alone in a single process."""
    reload: Callable[[], Reloaded] = nothing_to_reload
    """Reads the settings of this node again. Raises `ConfigError` where a source is wrong."""
    drills: "Drills | None" = None
    """What operators may break; None where the node does not serve the drills."""
    known_ledger: Ledger | None = None
    """None on a worker."""
    ledger_statistics: Callable[[], Awaitable[LedgerStatistics]] | None = None
    """The ledger's figures. None on a worker."""
    queue_demand: Callable[[], Awaitable[list[ModelDemand]]] | None = None
    """What waits for each model. None on a worker."""
    shows_ledger: Callable[[], bool] = lambda: True
    """Whether the metrics of this node, and not those of another gateway, have the ledger's figures: figures that two
    nodes show would count twice."""

    @property
    def ledger(self) -> Ledger:
        """The ledger. Raises `Unavailable` on a worker, which serves no route that needs the ledger."""
        if self.known_ledger is None:
            raise Unavailable("this node shows nothing of the ledger: ask a gateway")
        return self.known_ledger

    def problems_for(self, model: str) -> dict[str, str]:
        """What keeps the node from taking requests for one model, by component. Other models do not count."""
        of_node = {name: text for name, text in self.problems().items() if not name.startswith("model:")}
        problem = self.directory.problem_of(model)
        return of_node | ({f"model:{model}": problem} if problem else {})

    async def components(self) -> dict[str, Any]:
        """Each component and its state, in the form of `Components`."""
        return {
            "gateway": {"state": "draining" if self.draining() else "ready"},
            "ledger": await self._ledger(),
            "models": {
                name: {"state": status.state.value, "detail": status.detail, "capabilities": status.capabilities}
                for name, status in self.directory.items()
            },
        }

    async def render_metrics(self) -> tuple[bytes, str]:
        """The metrics for Prometheus, and their content type.

        While the ledger is away, the ledger's own figures are those of the last scrape.
        """
        self.metrics.node_state(ready=not self.problems(), draining=self.draining())
        if self.ledger_statistics is not None and self.queue_demand is not None:
            for name, status in self.directory.items():
                accepted = status.capabilities is not None and status.state is not ModelState.GONE
                self.metrics.models.show_accepted(name, accepted=accepted)
            if self.shows_ledger():
                with contextlib.suppress(Unavailable):
                    self._show_ledger(await self.ledger_statistics(), await self.queue_demand())
            else:
                self.metrics.ledger.hide()
        return self.metrics.render()

    def _show_ledger(self, ledger: LedgerStatistics, demand: list[ModelDemand]) -> None:
        shown = self.metrics.ledger
        shown.show(
            queued=ledger.queued,
            running=ledger.running,
            ended=ledger.ended,
            workers=ledger.workers,
            quarantined=ledger.quarantined,
            dead_letters=ledger.dead_letters,
            requeued_total=ledger.requeued_total,
            fenced_total=ledger.fenced_total,
        )
        waiting = ((each.model, each.priority, each.waiting, each.oldest_s) for each in demand)
        shown.show_queue(self.directory.names[:MODELS_MAX], waiting)

    async def _ledger(self) -> dict[str, Any]:
        if self.ledger_statistics is None:
            return {}
        try:
            found: dict[str, Any] = msgspec.to_builtins(await self.ledger_statistics())
        except Unavailable as error:
            return {"state": "away", "detail": error.message}
        return found


# The bodies.


@attrs.frozen
class Alive:
    """The process answers."""

    status: Literal["ok"]


@attrs.frozen
class Readiness:
    """What keeps the node from taking requests, by component."""

    status: Literal["ready", "not ready"]
    problems: dict[str, str]


@attrs.frozen
class NodeHealth:
    """The state of the gateway itself."""

    state: Literal["ready", "draining"]


@attrs.frozen
class ModelHealth:
    """The state of one model."""

    state: str
    detail: str
    capabilities: Capabilities | None


@attrs.frozen
class Components:
    """Each component of a gateway and its state."""

    gateway: NodeHealth
    ledger: dict[str, Any]
    models: dict[str, ModelHealth]


@attrs.frozen
class Health:
    """Whether the node is healthy, and the state of each component."""

    status: Literal["healthy", "unhealthy"]
    components: Components


@attrs.frozen
class TreePart:
    """A supervisor, which has children, or an actor, which has none. Both have more fields than these."""

    name: str
    path: str
    state: str
    incarnation: int
    restarts: int
    last_exit: str
    children: "list[TreePart]" = attrs.field(factory=list)


# The pages.


async def livez(_node: OperatedNode) -> Response:
    """The process answers. Nothing else is checked."""
    return json_page({"status": "ok"})


async def readyz(node: OperatedNode) -> Response:
    """Whether requests should be sent here; with `?model=NAME`, whether requests for this model should be.

    Raises `NotFound` for a model that is not served.
    """
    model = request.args.get("model")
    await node.directory.wait_known()
    if model is not None and node.directory.get(model) is None:
        raise NotFound(f"no model {model!r} is served here")
    problems = node.problems() if model is None else node.problems_for(model)
    return _judged({"status": "not ready" if problems else "ready", "problems": problems}, ok=not problems)


async def healthz(node: OperatedNode) -> Response:
    """Each component and its state. A node with a hung backend is not healthy."""
    problems = node.problems()
    payload = {"status": "unhealthy" if problems else "healthy", "components": await node.components()}
    return _judged(payload, ok=not problems)


async def metrics(node: OperatedNode) -> Response:
    """The metrics for Prometheus."""
    body, content_type = await node.render_metrics()
    return Response(body, content_type=content_type)


async def tree(node: OperatedNode) -> Response:
    """The supervision tree as it is now."""
    return json_page(node.tree())


def json_page(payload: object, *, status: int = 200) -> Response:
    """A JSON response; attrs objects become JSON objects."""
    return Response(msgspec.json.encode(payload), status=status, content_type="application/json")


def _judged(payload: object, *, ok: bool) -> Response:
    response = json_page(payload, status=200 if ok else 503)
    if not ok:
        response.headers["Retry-After"] = "1"
    return response
