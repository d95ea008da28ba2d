"""The histogram: percentiles are within 1/512 of a recorded value."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.load.histogram import RELATIVE_ERROR, Histogram

VALUES = st.lists(st.floats(0, 1e9) | st.sampled_from([0.0, 1e-9, 0.5, 1.0, 2.0]), min_size=1, max_size=200)


@given(VALUES, st.floats(0.0001, 1.0))
def test_percentile_is_close_below_a_recorded_value(values: list[float], share: float) -> None:
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    told = Histogram(values).at(share)
    assert exact * (1 - RELATIVE_ERROR) <= told <= exact


@given(VALUES)
def test_count_mean_minimum_and_maximum_are_exact(values: list[float]) -> None:
    summary = Histogram(values).summary()
    assert summary["count"] == len(values)
    assert summary["max"] == max(values)
    assert summary["mean"] == pytest.approx(sum(values) / len(values))
    assert Histogram(values).minimum == min(values)


@given(st.lists(st.integers(0, 1024), min_size=1), st.floats(0.01, 1.0))
def test_small_whole_numbers_are_exact(values: list[int], share: float) -> None:
    assert Histogram(values).at(share) == sorted(values)[math.ceil(share * len(values)) - 1]


@given(VALUES)
def test_percentiles_are_monotonic(values: list[float]) -> None:
    summary = Histogram(values).summary()
    told = [summary[name] for name in ("p50", "p90", "p95", "p99", "p99.9", "max")]
    assert told == sorted(told)


def test_empty_histogram_has_no_figures() -> None:
    assert Histogram().summary() == {}
    with pytest.raises(ValueError, match="empty"):
        Histogram().at(0.5)


@pytest.mark.parametrize("value", [-1e-9, math.nan])
def test_negative_values_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="from 0 on"):
        Histogram([value])
