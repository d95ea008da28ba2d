"""Percentiles and maxima of the recent past."""

import math
import statistics

from hypothesis import given
from hypothesis import strategies as st

from llmactors.telemetry.recent import RecentMaximum, RecentPercentiles

VALUES = st.lists(st.floats(0, 100), min_size=1, max_size=50)


@given(VALUES, st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_percentile_is_the_nearest_rank(values: list[float], fraction: float) -> None:
    recent = RecentPercentiles()
    for value in values:
        recent.add(value, now=0.0)
    (found,) = recent.percentiles([fraction], now=0.0)
    assert found in values
    assert sum(value <= found for value in values) >= fraction * len(values) > sum(value < found for value in values)


@given(VALUES)
def test_p50_of_an_odd_number_of_values_is_the_median(values: list[float]) -> None:
    values = values[: len(values) - 1 | 1]
    recent = RecentPercentiles()
    for value in values:
        recent.add(value, now=0.0)
    assert recent.percentiles([0.5], now=0.0) == [statistics.median_low(values)]


def test_percentiles_count_the_newest_values_only() -> None:
    recent = RecentPercentiles(max_values=3)
    for value in (100, 1, 2, 3):
        recent.add(value, now=0.0)
    assert recent.percentiles([1.0, 0.01], now=0.0) == [3, 1]


def test_old_values_are_forgotten_and_no_value_is_nan() -> None:
    recent = RecentPercentiles(max_age_s=300)
    recent.add(9.0, now=0.0)
    recent.add(1.0, now=200.0)
    assert recent.percentiles([1.0], now=300.0) == [9.0]
    assert recent.percentiles([1.0], now=301.0) == [1.0]
    assert math.isnan(recent.percentiles([1.0], now=1000.0)[0])
    assert repr(recent) == "<RecentPercentiles of 0 values>"


@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0, 9)), max_size=50))
def test_maximum_covers_one_to_two_windows(steps: list[tuple[float, float]]) -> None:
    recent, now, history = RecentMaximum(window_s=60), 0.0, []
    for gap_s, value in steps:
        now += gap_s
        recent.add(value, now)
        history.append((now, value))
        found = recent.value(now)
        assert max(value for at, value in history if now - at <= 60) <= found
        assert found <= max(value for at, value in history if now - at <= 120)


def test_maximum_is_forgotten_after_two_windows() -> None:
    recent = RecentMaximum(window_s=60)
    recent.add(5.0, now=10.0)
    assert [recent.value(now) for now in (59.0, 119.0, 120.0)] == [5.0, 5.0, 0.0]
