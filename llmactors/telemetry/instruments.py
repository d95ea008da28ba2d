"""Declares metrics in one registry: `Instruments` has one method for each kind of metric.

A metric with a label is a `Labelled`, which keeps its children, because prometheus_client takes a lock for each lookup.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge

from llmactors.telemetry.histograms import BucketCounts, Histograms

Child = TypeVar("Child", Counter, Gauge)

LONG_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
    *(300.0, 600.0, 1200.0, 1800.0),
)
"""For times of requests, which a slow model answers within half an hour."""
SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
GAP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""For times between tokens, which a takeover makes long."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Labelled(Generic[Child]):
    """A metric with labels. `of(value)` is the child for a value of the label, or for one value of each label."""

    def __init__(self, metric: Child) -> None:
        self._metric: Child = metric
        self._children: dict[tuple[str | int, ...], Child] = {}

    def of(self, *values: str | int) -> Child:
        """The child for these values of the labels, which is a new one at the first call."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._metric.labels(*map(str, values))
        return child

    def clear(self) -> None:
        """Forgets all children."""
        self._children.clear()
        self._metric.clear()


class FollowedTotal:
    """A counter that follows a total kept elsewhere, and never falls where that total starts again at 0."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._last: float = 0

    def rise_to(self, total: float) -> None:
        """Adds what `total` has grown by since the last call."""
        self._counter.inc(total - self._last if total >= self._last else total)
        self._last = total


class FollowedTotals:
    """As `FollowedTotal`, with one total for each value of the labels."""

    def __init__(self, counters: Labelled[Counter]) -> None:
        self._counters = counters
        self._totals: dict[tuple[str, ...], FollowedTotal] = {}

    def of(self, *values: str) -> FollowedTotal:
        """The total for these values of the labels."""
        if values not in self._totals:
            self._totals[values] = FollowedTotal(self._counters.of(*values))
        return self._totals[values]


class Instruments:
    """Makes metrics in `registry`. Each `text` is the sentence that Prometheus shows for the metric."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, registry=self._registry)

    def counters(self, name: str, text: str, *labels: str) -> Labelled[Counter]:
        return Labelled(Counter(name, text, labels, registry=self._registry))

    def total(self, name: str, text: str) -> FollowedTotal:
        return FollowedTotal(self.counter(name, text))

    def totals(self, name: str, text: str, *labels: str) -> FollowedTotals:
        return FollowedTotals(self.counters(name, text, *labels))

    def gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self._registry)

    def gauges(self, name: str, text: str, *labels: str) -> Labelled[Gauge]:
        return Labelled(Gauge(name, text, labels, registry=self._registry))

    def histogram(self, name: str, text: str, buckets: Sequence[float]) -> BucketCounts:
        return self.histograms(name, text, buckets).of()

    def histograms(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histograms:
        made = Histograms(name, text, labels, buckets)
        self._registry.register(made)
        return made
