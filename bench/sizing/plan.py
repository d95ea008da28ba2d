"""The cluster for a load, from the costs of the steps and what one process can bear. Pure."""

import math
from collections.abc import Iterator

import attrs

from bench.sizing.model import Cluster, Load, Part, StepCosts, cores

_MOST_TIMES = 4096
_GROWTH = 1.1


@attrs.frozen
class Bounds:
    """What one process can bear."""

    busy: float = 0.6
    """The share of a core that a gateway or a shard of Redis may be busy. Each uses one core."""
    streams_of_gateway: int = 4096
    """The connections of a gateway."""
    slots: int = 256
    """The streams that a worker runs at once."""
    gateway_stream_bytes: int = 37_000
    """The memory of a stream in a gateway."""
    request_bytes: int = 8_200
    token_bytes: int = 23
    """The memory of a request and of each of its tokens in Redis."""
    request_file_bytes: int = 4_900
    token_file_bytes: int = 203
    """What the append-only file grows by."""
    retention_s: float = 60.0
    """How long Redis keeps a request after its end."""


@attrs.frozen
class Plan:
    """A cluster, and what it spends."""

    cluster: Cluster
    load: Load
    busy: dict[Part, float]
    """The cores that all processes of each part are busy with."""
    gateway_bytes: float
    """The memory of the streams in one gateway."""
    redis_bytes: float
    redis_file_bytes_per_s: float
    """The memory, and the growth of the file, of one shard."""

    @property
    def cores(self) -> float:
        """The cores of the whole cluster, without those of the models."""
        return sum(self.busy.values())


def plan(costs: StepCosts, load: Load, bounds: Bounds) -> Plan:
    """The cheapest cluster in which no process is busier than it may be.

    More gateways and more shards mean more messages, so more of one is more work for the other. Raises `ValueError` for
    a load that no number is enough for.
    """
    workers = max(1, math.ceil(load.streams / bounds.slots))
    fewest = max(1, math.ceil(load.streams / bounds.streams_of_gateway))
    found = []
    for shards in _counts(1):
        for gateways in _counts(fewest):
            cluster = Cluster(gateways, workers, shards)
            busy = cores(costs, cluster, load)
            if busy["gateway"] <= bounds.busy * gateways:
                if busy["redis"] <= bounds.busy * shards:
                    found.append(_described(cluster, load, busy, bounds))
                break
    if not found:
        raise ValueError(f"no cluster is enough for {load.streams} streams: each process costs more than it brings")
    return min(found, key=lambda plan: plan.cores)


def _counts(first: int) -> Iterator[int]:
    """Numbers of processes from `first` on, each a little larger than the one before."""
    count = first
    while count <= first * _MOST_TIMES:
        yield count
        count = max(count + 1, round(count * _GROWTH))


def cells(costs: StepCosts, load: Load, bounds: Bounds) -> tuple[int, Plan]:
    """How many clusters, each for itself, serve the load with the fewest cores, and the plan of one.

    Raises `ValueError` where no number is enough.
    """
    found = []
    for count in _counts(1):
        if count > load.streams:
            break
        try:
            found.append((count, plan(costs, attrs.evolve(load, streams=math.ceil(load.streams / count)), bounds)))
        except ValueError:
            continue
    if not found:
        raise ValueError(f"no number of clusters is enough for {load.streams} streams")
    return min(found, key=lambda each: each[0] * each[1].cores)


def _described(cluster: Cluster, load: Load, busy: dict[Part, float], bounds: Bounds) -> Plan:
    requests_per_s = load.streams * load.tokens_per_s / load.tokens
    kept = load.streams + requests_per_s * bounds.retention_s
    request = bounds.request_bytes + load.tokens * bounds.token_bytes
    written = requests_per_s * (bounds.request_file_bytes + load.tokens * bounds.token_file_bytes)
    return Plan(
        cluster,
        load,
        busy,
        gateway_bytes=load.streams / cluster.gateways * bounds.gateway_stream_bytes,
        redis_bytes=kept * request / cluster.shards,
        redis_file_bytes_per_s=written / cluster.shards,
    )
