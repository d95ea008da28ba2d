"""Where `top` gets its figures: from a node, by the routes of operators, or from the Redis of a cluster."""

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol, TypeVar

import attrs
import msgspec
import trio

from llmactors.cli.client import ask, node_client
from llmactors.cluster.models import ClusterModels
from llmactors.cluster.node_record import NodeRecord, Role
from llmactors.cluster.node_store import NodeStore
from llmactors.config import Settings
from llmactors.errors import NotFound, Unavailable
from llmactors.gateway.operating.nodes import ModelRow, Models, NodeRow, Nodes, models_of, nodes_of
from llmactors.gateway.operating.requests import Queue, QueueRow, RequestRow, Requests, queue_of, requests_of
from llmactors.http.client import HttpClient
from llmactors.ledger import Ledger, RequestFilter
from llmactors.system.operator_access import cluster_ledger, cluster_nodes
from llmactors.telemetry.history import LastHour, LastHourView, NodeCounts

T = TypeVar("T")

REQUESTS_SHOWN = 500
_NODE_S = 10.0


@attrs.frozen(kw_only=True)
class Rates:
    """The latest figures of the history. None: nothing was measured."""

    requests_per_s: float | None = None
    tokens_per_s: float | None = None
    ttft_p50_s: float | None = None
    ttft_p99_s: float | None = None
    inter_token_p50_s: float | None = None
    inter_token_p99_s: float | None = None
    queue_wait_p50_s: float | None = None
    queue_wait_p99_s: float | None = None


@attrs.frozen(kw_only=True)
class Snapshot:
    """What `top` shows of one moment. None: the node does not know, as a worker does not know the queue."""

    source: str
    """The URL of the node, or the namespace of the cluster."""
    unix_s: float
    nodes: Sequence[NodeRow]
    models: Sequence[ModelRow] | None = None
    requests: Sequence[RequestRow] | None = None
    requests_total: int | None = None
    queue: Sequence[QueueRow] | None = None
    rates: Rates = attrs.field(factory=Rates)


class TopSource(Protocol):
    """Something that `top` can look at again and again."""

    async def look(self) -> Snapshot:
        """The figures now. Raises `Unavailable`, or what the node refuses the request with."""
        ...


class NodeSource:
    """Asks one node by HTTP."""

    def __init__(self, url: str, client: HttpClient) -> None:
        self._url = url
        self._client = client

    async def look(self) -> Snapshot:
        nodes = await self._get("nodes", Nodes)
        models = await self._get_if_served("models", Models)
        requests = await self._get_if_served(f"requests?limit={REQUESTS_SHOWN}", Requests)
        queue = await self._get_if_served("queue", Queue)
        history = await self._get_if_served("history", LastHourView)
        return Snapshot(
            source=self._url,
            unix_s=time.time(),
            nodes=nodes.nodes,
            models=None if models is None else models.models,
            requests=None if requests is None else requests.requests,
            requests_total=None if requests is None else requests.total,
            queue=None if queue is None else queue.models,
            rates=Rates() if history is None else _rates(history, steps=1),
        )

    async def _get(self, name: str, kind: type[T]) -> T:
        path = f"/v1/operator/{name}"
        found = await ask(self._client, self._url, "GET", path)
        try:
            return msgspec.convert(found, kind)
        except msgspec.ValidationError as error:
            raise Unavailable(
                f"{self._url}{path} answered in another form than this version expects: {error}"
            ) from error

    async def _get_if_served(self, name: str, kind: type[T]) -> T | None:
        """As `_get`; None where the node is a worker, which serves some of the routes only."""
        try:
            return await self._get(name, kind)
        except NotFound:
            return None


class ClusterSource:
    """Reads the ledger and the node directory of a cluster."""

    def __init__(self, settings: Settings, ledger: Ledger, store: NodeStore) -> None:
        self._settings = settings
        self._ledger = ledger
        self._store = store
        self._models = ClusterModels(settings.worker_grace_s, settings.known_model_s)
        self._history = LastHour()

    async def look(self) -> Snapshot:
        records = await self._store.records()
        self._models.update([each for each in records if each.role is Role.WORKER], trio.current_time())
        requests = await requests_of(self._ledger, RequestFilter(), REQUESTS_SHOWN)
        self._note(records, requests)
        return Snapshot(
            source=f"cluster {self._settings.namespace}",
            unix_s=time.time(),
            nodes=nodes_of(records).nodes,
            models=(await models_of(self._models, self._ledger, records)).models,
            requests=requests.requests,
            requests_total=requests.total,
            queue=(await queue_of(self._ledger, self._models.names)).models,
            rates=_rates(self._history.view(time.time()), steps=5),
        )

    def _note(self, records: Sequence[NodeRecord], requests: Requests) -> None:
        running = sum(request.state == "running" for request in requests.requests)
        counts = [NodeCounts(record.incarnation, record.counts, is_new=False) for record in records]
        self._history.take(counts, running=running, waiting=requests.total - running, unix_s=time.time())


@contextlib.asynccontextmanager
async def open_source(settings: Settings, url: str, api_key: str | None) -> AsyncIterator[TopSource]:
    """The cluster of the setting `redis`, or, where there is none, the node at `url`."""
    if settings.redis is None:
        with contextlib.closing(node_client(url, api_key)) as client:
            yield NodeSource(url, client)
        return
    async with cluster_ledger(settings) as ledger, cluster_nodes(settings) as store:
        yield ClusterSource(settings, ledger, store)


def _rates(history: LastHourView, steps: int) -> Rates:
    """The means of the last `steps` steps, without those in which nothing was measured."""
    found: dict[str, Any] = {}
    for name in attrs.fields_dict(Rates):
        values = [value for value in getattr(history.series, name)[-steps:] if value is not None]
        if values:
            found[name] = round(sum(values) / len(values), 4)
    return Rates(**found)
