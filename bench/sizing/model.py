"""What the parts of a cluster spend on a load, from what each step costs. Pure.

A worker makes a token for each of its streams in each step, and appends them with one call for each shard. Redis pushes
the tokens of an append with one message to each gateway that has some of the streams. So a part spends time on four
things: it is there, it handles messages, it handles tokens, and it handles requests.
"""

from typing import Literal

import attrs

Part = Literal["gateway", "worker", "redis"]
PARTS: tuple[Part, ...] = ("gateway", "worker", "redis")


@attrs.frozen
class Cluster:
    """So many processes of each part."""

    gateways: int
    workers: int
    shards: int = 1

    def __str__(self) -> str:
        shape = f"{self.gateways}x{self.workers}"
        return shape if self.shards == 1 else f"{shape}x{self.shards}"


@attrs.frozen
class Load:
    """Streams that run all the time: a request follows each that ends."""

    streams: int
    tokens_per_s: float
    """Of each stream: the steps per second of each worker."""
    tokens: float
    """In each request."""


@attrs.frozen
class Events:
    """How often in a second something happens that costs time, in the whole cluster."""

    processes: float
    """Processes of the part; for Redis, the gateways and workers that each shard answers."""
    appends: float
    pushes: float
    tokens: float
    requests: float

    def times(self, seconds: float) -> "Events":
        """The events of so many seconds."""
        return Events(*(seconds * each for each in attrs.astuple(self)))


@attrs.frozen
class Costs:
    """What one of each of the `Events` costs a part, in microseconds of CPU time."""

    processes: float
    """In each second."""
    appends: float
    pushes: float
    tokens: float
    requests: float


StepCosts = dict[Part, Costs]
"""The costs of each part."""


def events(cluster: Cluster, load: Load, part: Part) -> Events:
    """What happens in a second. Streams are spread evenly over workers, shards and gateways, and independently."""
    of_append = load.streams / (cluster.workers * cluster.shards)
    appends = cluster.workers * cluster.shards * _occupied(1, cluster.shards, load.streams / cluster.workers)
    pushes = cluster.workers * cluster.shards * cluster.gateways * _occupied(1, cluster.gateways, of_append)
    there = {
        "gateway": cluster.gateways,
        "worker": cluster.workers,
        "redis": cluster.shards * (cluster.gateways + cluster.workers),
    }[part]
    tokens = load.streams * load.tokens_per_s
    return Events(
        processes=there,
        appends=appends * load.tokens_per_s,
        pushes=pushes * load.tokens_per_s,
        tokens=tokens,
        requests=tokens / load.tokens,
    )


def _occupied(count: int, of: int, streams: float) -> float:
    """How many of `count` places have at least one stream, when `streams` are spread over `of` places by chance."""
    return count * (1 - (1 - 1 / of) ** streams) if of > 1 else float(count)


def spent(costs: Costs, happened: Events) -> float:
    """The CPU time in microseconds."""
    pairs = zip(attrs.astuple(costs), attrs.astuple(happened), strict=True)
    return float(sum(cost * count for cost, count in pairs))


def cores(costs: StepCosts, cluster: Cluster, load: Load) -> dict[Part, float]:
    """How many cores all processes of each part are busy with."""
    return {part: spent(costs[part], events(cluster, load, part)) / 1e6 for part in PARTS}


def us_per_token(costs: StepCosts, cluster: Cluster, load: Load) -> float:
    """The CPU time of the whole cluster for a token, in microseconds."""
    return 1e6 * sum(cores(costs, cluster, load).values()) / (load.streams * load.tokens_per_s)
