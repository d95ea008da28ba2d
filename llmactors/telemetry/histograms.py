"""Histograms with labels that cost little to write to.

prometheus_client takes a lock for each value and walks through the buckets. Lists of counts are enough, since
one thread measures.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class BucketCounts:
    """The values of one series of a histogram: how many fell into each bucket, and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Counts `value`, `times` times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    @property
    def counts(self) -> Sequence[int]:
        """How many values fell into each bucket, the last of which has no bound."""
        return self._counts

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Adds this series to the metric that is being scraped."""
        upper = [*map(str, self._bounds), "+Inf"]
        family.add_metric(labels, [*zip(upper, accumulate(self._counts), strict=True)], self._sum)


class Histograms(Collector):
    """One histogram with a `BucketCounts` for each combination of its labels.

    Args:
        name: The name of the metric.
        text: The sentence that Prometheus shows for the metric.
        labels: The names of the labels.
        bounds: The upper bounds of the buckets, in ascending order; a bucket without a bound follows.
    """

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._bounds = tuple(map(float, bounds))
        self._series: dict[tuple[str, ...], BucketCounts] = {}

    def of(self, *values: str) -> BucketCounts:
        """The series for these values of the labels, which is a new one at the first call."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = BucketCounts(self._bounds)
        return series

    def total(self) -> tuple[int, ...]:
        """How many values of all series fell into each bucket."""
        if not self._series:
            return (0,) * (len(self._bounds) + 1)
        return tuple(map(sum, zip(*(series.counts for series in self._series.values()), strict=True)))

    def describe(self) -> Iterable[Metric]:
        return [HistogramMetricFamily(self._name, self._text, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, series in self._series.items():
            series.add_to(family, values)
        return [family]


def quantile(bounds: Sequence[float], counts: Sequence[int], fraction: float) -> float | None:
    """The value that `fraction` of all values do not exceed; None where there are no values.

    Within a bucket the values count as spread evenly, as in PromQL's `histogram_quantile`. A value beyond the last
    bound counts as that bound.
    """
    rank = fraction * sum(counts)
    if not rank:
        return None
    below, lower = 0, 0.0
    for upper, count in zip(bounds, counts, strict=False):
        if count and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        below, lower = below + count, upper
    return bounds[-1]
