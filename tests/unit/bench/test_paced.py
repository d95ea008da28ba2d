"""The search for the largest number of streams that a server holds, and the rule that decides whether it holds them."""

from typing import Any

import pytest

from bench.scenarios.paced import is_held, search

RUNGS = 31


@pytest.mark.parametrize("start", [0, 14, 30])
@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("highest", [-1, 0, 1, 13, 14, 15, 29, 30])
def test_search_finds_the_highest_rung_from_any_start(highest: int, start: int, stride: int) -> None:
    asked: list[int] = []

    def holds(rung: int) -> bool:
        asked.append(rung)
        return rung <= highest

    assert search(holds, start=start, stride=stride, rungs=RUNGS) == highest
    assert len(set(asked)) == len(asked)
    assert all(0 <= rung < RUNGS for rung in asked)


def test_search_that_starts_near_needs_two_probes() -> None:
    asked: list[int] = []

    def holds(rung: int) -> bool:
        asked.append(rung)
        return rung <= 14

    assert search(holds, start=14, stride=1, rungs=RUNGS) == 14
    assert asked == [14, 15]


def found(**changes: Any) -> dict[str, Any]:
    return {"correct": 50, "steady_gap_s": {"p99": 0.021}, "token_gap_s": {"p99": 0.0299}} | changes


def test_streams_are_held_if_right_simultaneous_and_in_time() -> None:
    assert is_held(found(), 50)
    assert not is_held(found(correct=49), 50)
    assert not is_held(found(token_gap_s={"p99": 0.0301}), 50)


def test_streams_that_never_ran_together_are_not_held() -> None:
    assert not is_held(found(steady_gap_s={}), 50)
