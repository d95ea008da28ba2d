"""GCRA's bound, checked over every window of every history that Hypothesis finds."""

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.limiter.gcra import gcra
from llmactors.limiter.policy import RatePolicy, State

MS = 1_000_000
POLICIES = st.builds(
    RatePolicy,
    requests=st.integers(1, 7),
    period_s=st.sampled_from([0.01, 0.05, 1.0]),
    burst=st.none() | st.integers(1, 9),
)
# Arrivals: (milliseconds since the one before, cost).
ARRIVALS = st.lists(st.tuples(st.integers(0, 40) | st.integers(0, 2000), st.integers(0, 4)), max_size=40)


def admitted(policy: RatePolicy, arrivals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(moment in nanoseconds, cost) of those that were admitted."""
    state: State | None = None
    now_ns, passed = 10**18, []
    for gap_ms, cost in arrivals:
        now_ns += gap_ms * MS
        state, decision = gcra(policy, state, now_ns, cost)
        if decision.admitted:
            passed.append((now_ns, cost))
    return passed


@given(POLICIES, ARRIVALS)
def test_no_window_of_length_l_admits_more_than_burst_plus_rate_times_l(
    policy: RatePolicy, arrivals: list[tuple[int, int]]
) -> None:
    """Cost in [t, t + L] <= burst + requests L / period, for all t and L.

    It suffices to look at windows that begin and end with an admission.
    """
    passed = admitted(policy, arrivals)
    for first, last in itertools.combinations_with_replacement(range(len(passed)), 2):
        length_ns = passed[last][0] - passed[first][0]
        cost = sum(cost for _, cost in passed[first : last + 1])
        assert (cost - policy.limit) * policy.period_ns <= policy.requests * length_ns


@given(POLICIES, st.integers(1, 20))
def test_the_bound_is_reached(policy: RatePolicy, intervals: int) -> None:
    """Who asks at the right moments gets the burst, then one at each interval, and not one a nanosecond earlier."""
    state: State | None = None
    for _ in range(policy.limit):
        state, decision = gcra(policy, state, 0, 1)
        assert decision.admitted
    for number in range(1, intervals + 1):
        assert not gcra(policy, state, number * policy.interval_ns - 1, 1)[1].admitted
        state, decision = gcra(policy, state, number * policy.interval_ns, 1)
        assert decision.admitted


@given(POLICIES, ARRIVALS, st.integers(0, 12))
def test_remaining_is_truthful(policy: RatePolicy, arrivals: list[tuple[int, int]], cost: int) -> None:
    """Exactly `remaining` more are admitted at the same moment, and the next is refused."""
    state: State | None = None
    now_ns = 10**15
    for gap_ms, earlier in [*arrivals, (0, cost)]:
        now_ns += gap_ms * MS
        state, decision = gcra(policy, state, now_ns, earlier)
        assert 0 <= decision.remaining <= decision.limit == policy.limit
        probe = state
        for left in range(decision.remaining, 0, -1):
            probe, more = gcra(policy, probe, now_ns, 1)
            assert more.admitted
            assert more.remaining == left - 1
        assert not gcra(policy, probe, now_ns, 1)[1].admitted


@given(POLICIES, ARRIVALS, st.integers(1, 9))
def test_refusals_and_questions_cost_nothing(policy: RatePolicy, arrivals: list[tuple[int, int]], cost: int) -> None:
    state: State | None = None
    now_ns = 10**15
    for gap_ms, _ in arrivals:
        now_ns += gap_ms * MS
        before = gcra(policy, state, now_ns, 0)
        assert before[1].admitted
        state, decision = gcra(policy, state, now_ns, cost)
        if not decision.admitted:
            assert state == before[0]
            assert decision == attrs.evolve(before[1], admitted=False, retry_after_s=decision.retry_after_s)


@given(POLICIES, ARRIVALS)
def test_after_reset_all_of_it_is_back(policy: RatePolicy, arrivals: list[tuple[int, int]]) -> None:
    state: State | None = None
    now_ns = 10**15
    for gap_ms, cost in arrivals:
        now_ns += gap_ms * MS
        state, decision = gcra(policy, state, now_ns, cost)
        debt_ns = state[0] - now_ns
        assert decision.reset_s == debt_ns / 1e9
        assert gcra(policy, state, state[0], 0)[1].remaining == policy.limit
        assert not debt_ns or gcra(policy, state, state[0] - 1, 0)[1].remaining < policy.limit


@given(POLICIES, st.lists(st.tuples(st.integers(-5000, 100), st.integers(0, 4)), max_size=40))
def test_a_clock_that_goes_back_mints_nothing(policy: RatePolicy, arrivals: list[tuple[int, int]]) -> None:
    """TAT never falls, and at a past moment there is no more to be had than at the latest."""
    state: State | None = None
    latest_ns = now_ns = 10**15
    for step_ms, cost in arrivals:
        now_ns += step_ms * MS
        latest_ns = max(latest_ns, now_ns)
        before = state
        state, decision = gcra(policy, state, now_ns, cost)
        assert before is None or state[0] >= before[0]
        assert decision.remaining <= gcra(policy, state, latest_ns, 0)[1].remaining


def test_what_costs_more_than_the_burst_is_never_admitted_and_says_so() -> None:
    policy = RatePolicy(requests=10, period_s=1, burst=3)
    _, decision = gcra(policy, None, 0, 4)
    assert (decision.admitted, decision.remaining, decision.retry_after_s) == (False, 3, None)


@pytest.mark.parametrize(("burst", "at_once"), [(None, 60), (1, 1), (5, 5)])
def test_a_rested_caller_gets_the_burst_at_once(burst: int | None, at_once: int) -> None:
    policy = RatePolicy(requests=60, period_s=60, burst=burst)
    assert len(admitted(policy, [(0, 1)] * 100)) == at_once
