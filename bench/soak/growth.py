"""Judge whether a figure grew over a run. Pure."""

import statistics
from collections.abc import Sequence

import attrs

Point = tuple[float, float]
"""A time in seconds, and the value at that time."""
WARM_S = 240.0
"""The warm-up. A soak remembers ended requests for 150 s, and memory is steady some time after that."""
_MOST_POINTS = 400


def warm_up_s(seconds: float) -> float:
    """The warm-up of a load that takes `seconds`: shorter than `WARM_S` for a load that is too short to show growth."""
    return min(WARM_S, seconds / 3)


@attrs.frozen
class Tolerance:
    """How much a figure may grow in the judged time and still count as flat: the larger of a share and an amount."""

    share: float
    amount: float


@attrs.frozen
class Growth:
    """One figure over the time after the warm-up."""

    first: float
    """The median of the first quarter."""
    last: float
    """The median of the last quarter."""
    most: float
    """The largest value of the whole run, the warm-up included."""
    per_hour: float
    """The slope."""
    grown: float
    """How much the figure grew in the judged time, by the slope."""
    allowed: float
    """How much the figure may grow in that time and still count as flat."""

    @property
    def is_flat(self) -> bool:
        """Whether the figure grew by no more than is allowed. A figure that falls is flat."""
        return self.grown <= self.allowed

    @classmethod
    def of(cls, points: Sequence[Point], tolerance: Tolerance, *, warm_s: float) -> "Growth | None":
        """The growth of `points` from the time `warm_s` on; None with fewer than four points."""
        judged = [point for point in points if point[0] >= warm_s]
        if len(judged) < 4:
            return None
        values = [value for _, value in judged]
        quarter = len(values) // 4
        slope = median_slope(judged)
        return cls(
            first=statistics.median(values[:quarter]),
            last=statistics.median(values[-quarter:]),
            most=max(value for _, value in points),
            per_hour=slope * 3600,
            grown=slope * (judged[-1][0] - judged[0][0]),
            allowed=max(tolerance.amount, tolerance.share * statistics.median(values)),
        )


def median_slope(points: Sequence[Point]) -> float:
    """The median of the slopes of all pairs of points (the estimator of Theil and Sen), so peaks do not count.

    Of many points, only some hundred that are evenly spread are used.
    """
    used = points[:: max(1, len(points) // _MOST_POINTS)]
    slopes = [
        (value - before) / (time - earlier)
        for place, (time, value) in enumerate(used)
        for earlier, before in used[:place]
        if time > earlier
    ]
    return statistics.median(slopes) if slopes else 0.0
