"""`/v1/operator/nodes` and `/v1/operator/models`: the nodes of a cluster, and what they serve."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence

import attrs

from llmactors.backends.directory import NOT_IN_MEMORY, ModelDirectory, ModelStatus
from llmactors.cluster.cordon import Cordons
from llmactors.cluster.node_record import ModelReport, NodeRecord, Role
from llmactors.errors import Unavailable
from llmactors.gateway.operators import OperatedNode
from llmactors.http.exchange import Exchange
from llmactors.ledger import Ledger, ModelDemand


@attrs.frozen(kw_only=True)
class NodeRow:
    """One node, as its record in the node directory was renewed last."""

    name: str
    roles: tuple[str, ...]
    """`gateway`, `worker`, or both."""
    version: str
    url: str
    """The URL of a gateway, or of a worker's port for operators; empty where a worker has none."""
    started_unix_s: float
    draining: bool
    cordoned: bool
    """Whether an operator has drained the node."""
    cordoned_until_unix_s: float | None = None
    """When a node that an operator has drained takes work again by itself; None where only `uncordon` ends the cordon,
    and where there is none."""
    models: tuple[str, ...]
    slots: int
    """How many requests the node can run at once."""
    slots_busy: int
    followed_streams: int
    """How many streams are written to clients of the node now."""
    loop_stall_s: float
    """The longest stall of the event loop in the last one to two minutes."""


@attrs.frozen
class Nodes:
    """The nodes, by name."""

    nodes: Sequence[NodeRow]


@attrs.frozen(kw_only=True)
class ModelRow:
    """One model, over all workers that serve it."""

    name: str
    state: str
    detail: str
    workers: int
    """How many workers serve the model. Those that drain do not count."""
    slots: int
    slots_busy: int
    waiting: int
    oldest_wait_s: float
    """How long the request that was queued first has waited; 0 where nothing waits."""
    tokens_per_s: float
    """The tokens that all workers have made in a second, over the last seconds."""


@attrs.frozen
class Models:
    """The models; the default model is the first."""

    models: Sequence[ModelRow]


async def list_nodes(node: OperatedNode, exchange: Exchange) -> None:
    """Shows the nodes of the cluster, or the one node of a single process."""
    records = node.records()
    await exchange.answer(200, nodes_of(records, await _cordons_end(node.cordons, records)))


async def list_models(node: OperatedNode, exchange: Exchange) -> None:
    """Shows the models, with what waits for each of them."""
    await exchange.answer(200, await models_of(node.directory, node.ledger, node.records()))


def nodes_of(records: Iterable[NodeRecord], cordons_end: Mapping[str, float | None] | None = None) -> Nodes:
    """The nodes of which these are the records. `cordons_end` says when cordons end, by the names of nodes."""
    ends = cordons_end or {}
    return Nodes([_node_row(record, ends.get(record.name)) for record in sorted(records, key=lambda one: one.name)])


async def _cordons_end(cordons: Cordons, records: Iterable[NodeRecord]) -> dict[str, float | None]:
    """When the cordons of nodes end, where that can be asked now."""
    found: dict[str, float | None] = {}
    with contextlib.suppress(Unavailable):
        for record in records:
            if record.cordoned and (cordon := await cordons.cordon_of(record.name)) is not None:
                found[record.name] = cordon.until_unix_s
    return found


async def models_of(directory: ModelDirectory, ledger: Ledger, records: Iterable[NodeRecord]) -> Models:
    """The models of `directory`, with what waits for each of them, and with what their workers do."""
    known = directory.items()
    demand: dict[str, list[ModelDemand]] = {}
    for each in await ledger.demand([name for name, _ in known]):
        demand.setdefault(each.model, []).append(each)
    reports: dict[str, list[ModelReport]] = {}
    for record in records:
        for report in record.models:
            if not record.draining:
                reports.setdefault(report.name, []).append(report)
    return Models([_model_row(name, status, reports.get(name, []), demand.get(name, [])) for name, status in known])


def _node_row(record: NodeRecord, cordon_ends: float | None) -> NodeRow:
    roles = (Role.GATEWAY, Role.WORKER) if record.role is Role.SINGLE else (record.role,)
    return NodeRow(
        name=record.name,
        roles=tuple(role.value for role in roles),
        version=record.version,
        url=record.address,
        started_unix_s=record.started_at,
        draining=record.draining,
        cordoned=record.cordoned,
        cordoned_until_unix_s=cordon_ends,
        models=tuple(report.name for report in record.models),
        slots=record.load.slots,
        slots_busy=record.load.running,
        followed_streams=record.load.followed_streams,
        loop_stall_s=round(record.load.loop_stall_s, 3),
    )


def _model_row(
    name: str, status: ModelStatus, reports: Sequence[ModelReport], waiting: Iterable[ModelDemand]
) -> ModelRow:
    loaded = [report for report in reports if report.capabilities is not None and report.state not in NOT_IN_MEMORY]
    found = [*waiting]
    return ModelRow(
        name=name,
        state=status.state.value,
        detail=status.detail,
        workers=len(reports),
        slots=sum(report.capabilities.slots for report in loaded if report.capabilities is not None),
        slots_busy=sum(report.running for report in reports),
        waiting=sum(each.waiting for each in found),
        oldest_wait_s=round(max((each.oldest_s for each in found), default=0.0), 3),
        tokens_per_s=round(sum(report.tokens_per_s for report in reports), 1),
    )
