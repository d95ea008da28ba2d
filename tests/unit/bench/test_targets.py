"""What was reached is told from what was missed, and from what was not measured."""

import pytest

from bench.contestants import ALONE, CLUSTER
from bench.results import Spread
from bench.targets import Judgement, Target, judge

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
def test_reached(target: Target, value: float | None, reached: bool | None) -> None:
    assert Judgement(target, ALONE, value).reached is reached


def test_the_cluster_has_limits_of_its_own() -> None:
    assert Judgement(RATIO, CLUSTER, 5.0).reached
    assert not Judgement(RATIO, ALONE, 5.0).reached


def test_ratios_are_taken_of_one_run() -> None:
    saturate = {
        ALONE: {"requests_per_s": 600.0},
        CLUSTER: {"requests_per_s": 300.0},
        "origin": {"requests_per_s": 100.0},
    }
    real = {ALONE: {"added_ttft_s.4": 3.0}}
    judged = list(judge({"saturate": saturate, "real": real}))
    values = {(each.contestant, each.target.about): each.value for each in judged}
    assert values[ALONE, "requests/s against the origin's design"] == 6.0
    assert values[CLUSTER, "requests/s against the origin's design"] == 3.0
    assert values[ALONE, "requests/s against mosec"] is None
    assert values[ALONE, "TTFT added to llama.cpp's own, 4 streams"] == 3.0
    assert {each.target.scenario for each in judged} == {"saturate", "real"}


def test_something_against_nothing_is_reached() -> None:
    paced = {ALONE: {"streams_held": 10.0}, CLUSTER: {"streams_held": 0.0}, "origin": {"streams_held": 0.0}}
    assert [each.reached for each in judge({"paced": paced})] == [True, None]


def test_median_and_range() -> None:
    spread = Spread.of([3.0, 1.0, 2.0])
    assert (spread.median, spread.least, spread.most) == (2.0, 1.0, 3.0)
    assert str(spread) == "2 (1 to 3)"
