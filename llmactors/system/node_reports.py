"""What a node says of itself in its record: its models, and what it does now."""

from collections.abc import Collection

from llmactors.backends.directory import NOT_IN_MEMORY, ModelDirectory
from llmactors.cluster.node_record import ModelReport, NodeLoad
from llmactors.telemetry import Metrics
from llmactors.telemetry.token_rates import TokenRates


def model_reports(
    directory: ModelDirectory, rates: TokenRates, declared: Collection[str] = ()
) -> tuple[ModelReport, ...]:
    """The models of a worker. `declared` are those of the setting `models`."""
    return tuple(
        ModelReport(
            name,
            status.state,
            status.capabilities,
            status.detail,
            status.ready_in_s,
            declared=name in declared,
            running=directory.running[name],
            tokens_per_s=rates.per_s(name),
        )
        for name, status in directory.items()
    )


def worker_load(directory: ModelDirectory, metrics: Metrics, followed_streams: int = 0) -> NodeLoad:
    """What a worker, or a single process, does now."""
    slots = sum(
        status.capabilities.slots
        for _, status in directory.items()
        if status.capabilities is not None and status.state not in NOT_IN_MEMORY
    )
    return NodeLoad(sum(directory.running.values()), slots, followed_streams, metrics.worst_stall_s)
