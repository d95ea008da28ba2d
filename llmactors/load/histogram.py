"""A histogram with log-linear buckets, as HdrHistogram has them. Pure.

Each power of two is cut into 512 buckets, and each bucket is read as its lower edge. So a percentile is a recorded
value, or less than one by at most 1/512 (0.2 %), over the whole range of floats; whole numbers up to 1024 are exact.
Empty buckets take no memory. The count, the mean, the minimum and the maximum are exact.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

RELATIVE_ERROR = 1 / 512
SHARES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


class Histogram:
    """The distribution of values that are not negative."""

    __slots__ = ("_buckets", "_zeros", "count", "maximum", "minimum", "total")

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._buckets: Counter[int] = Counter()
        self._zeros = 0
        self.count = 0
        self.total = 0.0
        self.minimum = math.inf
        self.maximum = 0.0
        self.add(values)

    def __repr__(self) -> str:
        return f"<Histogram of {self.count}>"

    def add(self, values: Iterable[float]) -> None:
        """Records values. Raises `ValueError` for a negative one."""
        buckets, frexp = self._buckets, math.frexp
        for value in values:
            if value > 0:
                mantissa, exponent = frexp(value)
                # The mantissa is from 0.5 up to 1.
                buckets[(exponent << 9) + int(mantissa * 1024)] += 1
            elif value == 0:
                self._zeros += 1
            else:
                raise ValueError(f"a histogram takes values from 0 on, not {value}")
            self.count += 1
            self.total += value
            self.minimum = min(self.minimum, value)
            self.maximum = max(self.maximum, value)

    def record(self, value: float) -> None:
        """Records one value."""
        self.add((value,))

    def at(self, share: float) -> float:
        """The value that this share of all values does not exceed, by nearest rank. Raises `ValueError` if empty."""
        if not self.count:
            raise ValueError("the histogram is empty")
        rank = max(1, math.ceil(share * self.count))
        seen = self._zeros
        if rank <= seen:
            return 0.0
        if rank == self.count:
            return self.maximum
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if rank <= seen:
                return max(self.minimum, _lower_edge(bucket))
        raise AssertionError("a rank beyond the count")

    def summary(self) -> dict[str, float]:
        """The mean, the percentiles and the maximum; empty where nothing was recorded."""
        if not self.count:
            return {}
        percentiles = {name: self.at(share) for name, share in SHARES.items()}
        return {"mean": self.total / self.count, **percentiles, "max": self.maximum, "count": self.count}


def _lower_edge(bucket: int) -> float:
    # The mantissa counts from 512 to 1023; the division carries its top bit over to the exponent.
    exponent, rest = divmod(bucket - 512, 512)
    return math.ldexp((rest + 512) / 1024, exponent)
