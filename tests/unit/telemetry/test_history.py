"""The history of a node: figures per step from counts that only rise."""

from typing import Any

import attrs
import pytest

from llmactors.telemetry import Metrics
from llmactors.telemetry.histograms import quantile
from llmactors.telemetry.history import STEP_S, STEPS, Counts, LastHour, NodeCounts, Series


def node(name: str = "a", *, is_new: bool = False, **counts: Any) -> NodeCounts:
    return NodeCounts(name, Counts(**counts), is_new=is_new)


def series_of(history: LastHour) -> Series:
    return history.view(0.0).series


def take(history: LastHour, step: float, *nodes: NodeCounts, running: int | None = 0, waiting: int | None = 0) -> None:
    history.take(nodes, running=running, waiting=waiting, unix_s=1000 + step * STEP_S)


def test_steps_have_what_all_nodes_counted_meanwhile() -> None:
    history = LastHour()
    take(history, 0, node("a", tokens=1000), node("b", tokens=7, refusals={"OVERLOADED": 3}))
    take(history, 1, node("a", tokens=1100), node("b", tokens=57, refusals={"OVERLOADED": 4}), running=2, waiting=None)
    take(history, 2, node("a", tokens=1100), node("b", tokens=57, refusals={"OVERLOADED": 4}))
    found = history.view(0.0)
    assert (found.step_s, found.from_unix_s) == (STEP_S, 1000)
    assert found.series.tokens_per_s == [15.0, 0.0]
    assert (found.series.running, found.series.waiting) == ([2, 0], [None, 0])
    assert found.series.refusals == {"OVERLOADED": [1, 0]}
    assert found.series.ttft_p50_s == [None, None]


def test_nodes_that_come_and_go_make_no_jumps() -> None:
    history = LastHour()
    take(history, 0, node("old", tokens=500))
    take(history, 1, node("old", tokens=500), node("known later", tokens=9000))
    take(history, 2, node("known later", tokens=9010), node("started", tokens=40, is_new=True))
    take(history, 3, node("known later", tokens=9010), node("started", tokens=40), node("old", tokens=520))
    assert series_of(history).tokens_per_s == [0.0, 5.0, 2.0]


def test_time_without_samples_is_unknown() -> None:
    history = LastHour()
    take(history, 0, node(tokens=0))
    take(history, 4, node(tokens=40))
    found = history.view(0.0)
    assert found.series.tokens_per_s == [None, None, None, 1.0]
    assert found.from_unix_s == 1000


def test_history_is_bounded() -> None:
    history = LastHour()
    for step in range(STEPS + 10):
        take(history, step, node(f"start {step}", tokens=step, is_new=True))
    take(history, 10_000_000, node("late"))
    found = history.view(0.0).series
    assert {len(values) for name, values in attrs.asdict(found).items() if name != "refusals"} == {STEPS}


def test_percentiles_are_those_of_the_step() -> None:
    history, metrics = LastHour(), Metrics()
    stream = metrics.models.answers("m").stream(0.0)
    stream.wrote(1, 3.0)
    take(history, 0, NodeCounts("a", metrics.counts(), is_new=True))
    for at in range(1, 101):
        stream.wrote(1, 3.0 + at * 0.015)
    metrics.models.work("m").claimed(1, 0.02)
    metrics.models.work("m").made(100)
    metrics.request_finished(200, 1.0, "INTERRUPTED")
    take(history, 1, NodeCounts("a", metrics.counts(), is_new=True))
    found = series_of(history)
    assert (found.tokens_per_s, found.requests_per_s) == ([10.0], [0.1])
    assert found.inter_token_p50_s[0] == pytest.approx(0.015, abs=0.006)
    assert (found.ttft_p50_s, found.refusals) == ([None], {"INTERRUPTED": [1]})
    assert found.queue_wait_p99_s[0] == pytest.approx(0.0249, abs=0.001)


def test_other_buckets_of_another_version_are_left_out() -> None:
    history = LastHour()
    take(history, 0, node(ttft=(1, 2)))
    take(history, 1, node(ttft=(1, 5)))
    assert series_of(history).ttft_p50_s == [None]


@pytest.mark.parametrize(
    ("counts", "fraction", "value"),
    [
        ((0, 0, 0), 0.5, None),
        ((4, 0, 0), 0.5, 0.5),
        ((0, 4, 0), 0.5, 2.0),
        ((1, 1, 0), 0.99, 2.96),
        ((0, 0, 9), 0.5, 3.0),
    ],
)
def test_quantile_is_interpolated_in_its_bucket(counts: tuple[int, ...], fraction: float, value: float | None) -> None:
    assert quantile((1.0, 3.0), counts, fraction) == (None if value is None else pytest.approx(value))
