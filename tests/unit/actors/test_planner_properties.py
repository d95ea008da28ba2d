"""Compares the planner with a second version of its rules in plain lists, over generated histories."""

import random

import attrs
from hypothesis import given
from hypothesis import strategies as st

from llmactors.actors import NO_BACKOFF, Planner, Restart, RestartPlan, Strategy


@attrs.frozen
class Story:
    restarts: list[Restart]
    strategy: Strategy
    intensity: int
    period_s: float
    exits: list[tuple[int, bool, float]]
    """Which child, whether it crashed, and how long after the exit before."""


@st.composite
def stories(draw: st.DrawFn) -> Story:
    restarts = draw(st.lists(st.sampled_from(Restart), min_size=1, max_size=5))
    exits = st.tuples(st.integers(0, len(restarts) - 1), st.booleans(), st.sampled_from([0.0, 0.5, 1.0, 3.0, 7.0]))
    return Story(
        restarts,
        draw(st.sampled_from(Strategy)),
        draw(st.integers(0, 4)),
        draw(st.sampled_from([0.5, 2.0, 10.0])),
        draw(st.lists(exits, max_size=25)),
    )


def restated(story: Story) -> list[RestartPlan]:
    """The plan of each exit up to the first exit that escalates."""
    plans = []
    times: list[float] = []
    now = 0.0
    last = len(story.restarts) - 1
    for who, crashed, later in story.exits:
        now += later
        kind = story.restarts[who]
        if kind is Restart.TEMPORARY or (kind is Restart.TRANSIENT and not crashed):
            plans.append(RestartPlan(ended=(str(who),)))
            continue
        times.append(now)
        if sum(1 for time in times if now - time < story.period_s) > story.intensity:
            plans.append(RestartPlan(stop=tuple(str(child) for child in range(last, -1, -1)), give_up=True))
            break
        first = {Strategy.ONE_FOR_ONE: who, Strategy.ONE_FOR_ALL: 0, Strategy.REST_FOR_ONE: who}[story.strategy]
        final = who if story.strategy is Strategy.ONE_FOR_ONE else last
        others = [child for child in range(first, final + 1) if child != who]
        starts = sorted({who} | {child for child in others if story.restarts[child] is not Restart.TEMPORARY})
        plans.append(
            RestartPlan(
                stop=tuple(str(child) for child in sorted(others, reverse=True)),
                start=tuple(str(child) for child in starts),
                ended=tuple(str(child) for child in others if child not in starts),
            )
        )
    return plans


@given(stories())
def test_plans_follow_the_rules_for_every_history(story: Story) -> None:
    children = [(str(number), kind) for number, kind in enumerate(story.restarts)]
    planner = Planner(children, story.strategy, story.intensity, story.period_s, NO_BACKOFF, random.Random(0))
    now = 0.0
    for (who, crashed, later), expected in zip(story.exits, restated(story), strict=False):
        now += later
        assert planner.on_exit(str(who), crashed=crashed, now=now) == expected


@given(stories())
def test_memory_of_a_planner_is_bounded(story: Story) -> None:
    children = [(str(number), kind) for number, kind in enumerate(story.restarts)]
    planner = Planner(children, story.strategy, story.intensity, story.period_s, NO_BACKOFF, random.Random(0))
    for number, (who, crashed, _) in enumerate(story.exits * 4):
        if planner.on_exit(str(who), crashed=crashed, now=float(number)).give_up:
            break
    assert planner.recent_restarts <= story.intensity + 1
    assert len(planner._streaks) + len(planner._started_at) <= 2 * len(children)
