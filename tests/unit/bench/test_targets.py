"""Targets are reached, missed or not measured."""

import pytest

from bench.results import Spread
from bench.servers import ALONE, CLUSTER
from bench.targets import Target, TargetResult, judge

RATIO = Target("s", "p", "", 6, 4, at_least=True, against="origin")


@pytest.mark.parametrize(
    ("target", "value", "reached"),
    [
        (RATIO, 6.0, True),
        (RATIO, 5.9, False),
        (RATIO, None, None),
        (Target("s", "p", "", 3, 6), 3.0, True),
        (Target("s", "p", "", 3, 6), 3.1, False),
        (Target("s", "p", "", 1, 1, absolute=True), -0.5, True),
        (Target("s", "p", "", 1, 1, absolute=True), -1.5, False),
    ],
)
def test_limit_decides_whether_a_target_is_reached(target: Target, value: float | None, reached: bool | None) -> None:
    assert TargetResult(target, ALONE, value).reached is reached


def test_cluster_has_limits_of_its_own() -> None:
    assert TargetResult(RATIO, CLUSTER, 5.0).reached
    assert not TargetResult(RATIO, ALONE, 5.0).reached


def test_ratio_compares_figures_of_one_scenario() -> None:
    saturate = {
        ALONE: {"requests_per_s": 600.0},
        CLUSTER: {"requests_per_s": 300.0},
        "origin": {"requests_per_s": 100.0},
    }
    real = {ALONE: {"added_ttft_s.4": 3.0}}
    judged = list(judge({"saturate": saturate, "real": real}))
    values = {(each.server, each.target.about): each.value for each in judged}
    assert values[ALONE, "requests/s against the original design"] == 6.0
    assert values[CLUSTER, "requests/s against the original design"] == 3.0
    assert values[ALONE, "requests/s against mosec"] is None
    assert values[ALONE, "TTFT added to llama.cpp's own, 4 streams"] == 3.0
    assert {each.target.scenario for each in judged} == {"saturate", "real"}


def test_any_value_beats_a_peer_that_reached_zero() -> None:
    paced = {ALONE: {"streams_held": 10.0}, CLUSTER: {"streams_held": 0.0}, "origin": {"streams_held": 0.0}}
    assert [each.reached for each in judge({"paced": paced})] == [True, None]


def test_spread_shows_median_and_range() -> None:
    spread = Spread.of([3.0, 1.0, 2.0])
    assert (spread.median, spread.least, spread.most) == (2.0, 1.0, 3.0)
    assert str(spread) == "2 (1 to 3)"
