"""The planner's table, with one test for each cell, as in OTP's supervisor_SUITE.

Cells: strategy x restart type x exit x {works, escalates, another child fails its restart, temporary bystander}.
The child that exits is `b`, between `a` and `c`.
"""

import random

import pytest

from llmactors.actors import NO_BACKOFF, Backoff, Planner, Restart, RestartPlan, Strategy

ALONE, ALL, REST = Strategy.ONE_FOR_ONE, Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE
PERMANENT, TRANSIENT, TEMPORARY = Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY

STRATEGIES = [ALONE, ALL, REST]
RESTARTED = [(PERMANENT, "normal"), (PERMANENT, "crashed"), (TRANSIENT, "crashed")]
LEFT = [(TRANSIENT, "normal"), (TEMPORARY, "normal"), (TEMPORARY, "crashed")]


def name_of(value: object) -> str:
    return value.value if isinstance(value, Strategy | Restart) else str(value)


def planner(
    strategy: Strategy = ALONE,
    b: Restart = PERMANENT,
    *,
    others: Restart = PERMANENT,
    intensity: int = 5,
    period_s: float = 10.0,
    backoff: Backoff = NO_BACKOFF,
) -> Planner:
    children = [("a", others), ("b", b), ("c", others)]
    return Planner(children, strategy, intensity, period_s, backoff, random.Random(0))


def exit_of(it: Planner, name: str, how: str = "crashed", now: float = 0.0) -> RestartPlan:
    return it.on_exit(name, crashed=how == "crashed", now=now)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=name_of)
@pytest.mark.parametrize(("restart", "how"), RESTARTED, ids=name_of)
def test_exit_leads_to_the_restarts_of_the_table(strategy: Strategy, restart: Restart, how: str) -> None:
    plan = exit_of(planner(strategy, restart), "b", how)

    expected = {
        ALONE: RestartPlan(start=("b",)),
        ALL: RestartPlan(stop=("c", "a"), start=("a", "b", "c")),
        REST: RestartPlan(stop=("c",), start=("b", "c")),
    }
    assert plan == expected[strategy]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=name_of)
@pytest.mark.parametrize(("restart", "how"), LEFT, ids=name_of)
def test_child_that_is_not_restarted_has_ended(strategy: Strategy, restart: Restart, how: str) -> None:
    assert exit_of(planner(strategy, restart), "b", how) == RestartPlan(ended=("b",))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=name_of)
@pytest.mark.parametrize(("restart", "how"), RESTARTED, ids=name_of)
def test_supervisor_gives_up_above_its_intensity(strategy: Strategy, restart: Restart, how: str) -> None:
    """At the limit the planner still restarts; above it, all children are stopped from the right."""
    it = planner(strategy, restart, intensity=2)

    assert [exit_of(it, "b", how).give_up for _ in range(2)] == [False, False]
    assert exit_of(it, "b", how) == RestartPlan(stop=("c", "b", "a"), give_up=True)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=name_of)
@pytest.mark.parametrize(("restart", "how"), LEFT, ids=name_of)
def test_exit_without_restart_does_not_count(strategy: Strategy, restart: Restart, how: str) -> None:
    it = planner(strategy, restart, intensity=0)

    assert [exit_of(it, "b", how).give_up for _ in range(9)] == [False] * 9


@pytest.mark.parametrize("strategy", STRATEGIES, ids=name_of)
@pytest.mark.parametrize(("restart", "how"), RESTARTED, ids=name_of)
def test_failed_restart_in_a_group_restarts_the_group(strategy: Strategy, restart: Restart, how: str) -> None:
    """The failed restart of `c` counts as an exit of `c`, and the group of `c` is restarted."""
    it = planner(strategy, restart, intensity=2)
    exit_of(it, "b", how)

    expected = {
        ALONE: RestartPlan(start=("c",)),
        ALL: RestartPlan(stop=("b", "a"), start=("a", "b", "c")),
        REST: RestartPlan(start=("c",)),
    }
    assert exit_of(it, "c") == expected[strategy]
    assert it.recent_restarts == 2
    assert exit_of(it, "c").give_up


@pytest.mark.parametrize("strategy", STRATEGIES, ids=name_of)
@pytest.mark.parametrize(("restart", "how"), RESTARTED, ids=name_of)
def test_temporary_child_of_a_restarted_group_has_ended(strategy: Strategy, restart: Restart, how: str) -> None:
    """The child is stopped with the group if the strategy says so, and is not started again."""
    plan = exit_of(planner(strategy, restart, others=TEMPORARY), "b", how)

    expected = {
        ALONE: RestartPlan(start=("b",)),
        ALL: RestartPlan(stop=("c", "a"), start=("b",), ended=("a", "c")),
        REST: RestartPlan(stop=("c",), start=("b",), ended=("c",)),
    }
    assert plan == expected[strategy]


def test_ended_transient_child_restarts_with_its_group() -> None:
    it = planner(ALL, others=TRANSIENT)
    assert exit_of(it, "a", "normal") == RestartPlan(ended=("a",))
    assert exit_of(it, "b").start == ("a", "b", "c")


def test_group_restart_counts_once() -> None:
    it = planner(ALL, intensity=1)
    assert len(exit_of(it, "b").start) == 3
    assert it.recent_restarts == 1


@pytest.mark.parametrize(("second", "gives_up"), [(9.999, True), (10.0, False)])
def test_restart_is_forgotten_after_the_period(second: float, gives_up: bool) -> None:
    it = planner(intensity=1, period_s=10.0)
    exit_of(it, "b", now=0.0)
    assert exit_of(it, "b", now=second).give_up is gives_up


def test_intensity_zero_allows_no_restart() -> None:
    assert exit_of(planner(intensity=0), "b").give_up


def test_restarts_of_all_children_count_together() -> None:
    it = planner(intensity=2)
    assert [exit_of(it, name).give_up for name in "abc"] == [False, False, True]


def test_delay_doubles_until_a_stable_run_resets_it() -> None:
    it = planner(intensity=99, backoff=Backoff(first_s=1.0, factor=2.0, cap_s=5.0, jitter=0.0, stable_s=10.0))
    now = 0.0
    waits = []
    for ran_s in (0.0, 1.0, 1.0, 1.0, 9.5, 10.0, 1.0):
        it.on_started("b", now)
        now += ran_s
        waits.append(exit_of(it, "b", now=now).delay_s)

    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0, 1.0, 2.0]


def test_repeated_failed_starts_are_no_stable_run() -> None:
    it = planner(intensity=99, backoff=Backoff(first_s=1.0, factor=2.0, cap_s=100.0, jitter=0.0, stable_s=10.0))
    it.on_started("b", 0.0)
    assert [exit_of(it, "b", now=now).delay_s for now in (1.0, 50.0, 150.0, 999.0)] == [1.0, 2.0, 4.0, 8.0]


def test_each_child_has_its_own_restart_streak() -> None:
    it = planner(intensity=99, backoff=Backoff(first_s=1.0, factor=2.0, jitter=0.0))
    assert [exit_of(it, name).delay_s for name in "bbcb"] == [1.0, 2.0, 1.0, 4.0]
