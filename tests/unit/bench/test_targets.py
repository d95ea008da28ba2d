"""Targets are reached, missed or not measured."""

import pytest

from bench.results import Spread
from bench.scenarios import SCENARIOS
from bench.scenarios.scale import LOADS, ratios
from bench.servers import ALONE, CLUSTER
from bench.targets import TARGETS, Target, TargetResult, judge

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


def test_cpu_ratio_to_a_bare_endpoint_is_the_first_target() -> None:
    measured = {
        ALONE: {"cpu_us_per_token": 15.0},
        CLUSTER: {"cpu_us_per_token": 26.0},
        "uvicorn": {"cpu_us_per_token": 12.0},
    }
    first: dict[str, TargetResult] = {}
    for each in judge({"saturate": measured}):
        first.setdefault(each.server, each)
    assert {server: (each.target.against, each.value, each.reached) for server, each in first.items()} == {
        ALONE: ("uvicorn", 1.25, True),
        CLUSTER: ("uvicorn", pytest.approx(2.167, abs=1e-3), False),
    }


def test_time_of_a_proxy_may_be_a_small_share_of_a_peers() -> None:
    proxy = {
        name: {"paced.cpu_us_per_token": cost} for name, cost in ((ALONE, 60.0), (CLUSTER, 90.0), ("litellm", 720.0))
    }
    reached = {each.server: each.reached for each in judge({"proxy": proxy}) if each.target.against == "litellm"}
    assert reached == {ALONE: True, CLUSTER: True}


def test_target_of_clusters_is_not_judged_for_one_process() -> None:
    scale = {CLUSTER: {"cpu_us_per_token_ratio.4x4x1": 1.2, "cpu_us_per_token_ratio.2x2x2": 1.1}}
    judged = [each for each in judge({"scale": scale}) if each.value is not None]
    assert [(each.server, each.reached) for each in judged] == [(CLUSTER, True), (CLUSTER, False)]
    assert ALONE not in {each.server for each in judge({"scale": scale})}


def test_cost_of_a_shape_is_compared_with_the_smallest() -> None:
    costs = {"1x1x1": 20.0, "4x4x1": 25.0}
    found = ratios(dict.fromkeys(LOADS, costs) | {"paced_cpu_us_per_token": {"1x1x1": 50.0, "4x4x1": 40.0}})
    assert found["cpu_us_per_token_ratio"] == {"1x1x1": 1.0, "4x4x1": 1.25}
    assert found["paced_cpu_us_per_token_ratio"] == {"1x1x1": 1.0, "4x4x1": 0.8}


def test_missed_target_says_so_in_print() -> None:
    assert "MISSED" in str(TargetResult(RATIO, ALONE, 5.9))
    assert "MISSED" not in str(TargetResult(RATIO, ALONE, 6.0))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target.scenario}-{target.path}-{target.against}")
def test_target_names_a_figure_of_its_scenario(target: Target) -> None:
    scenario = SCENARIOS[target.scenario]
    assert target.path in {figure.path for figure in scenario.figures}
    assert target.against is None or target.against in scenario.servers


def test_any_value_beats_a_peer_that_reached_zero() -> None:
    paced = {ALONE: {"streams_held": 10.0}, CLUSTER: {"streams_held": 0.0}, "origin": {"streams_held": 0.0}}
    assert [each.reached for each in judge({"paced": paced})] == [True, None]


def test_spread_shows_median_and_range() -> None:
    spread = Spread.of([3.0, 1.0, 2.0])
    assert (spread.median, spread.least, spread.most) == (2.0, 1.0, 3.0)
    assert str(spread) == "2 (1 to 3)"
