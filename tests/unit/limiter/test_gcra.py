"""The bound of GCRA, checked in every window of every history that Hypothesis generates."""

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.limiter import gcra
from llmactors.limiter.policy import LimitDecision, RatePolicy, RateState

MS = 1000
POLICIES = st.builds(
    RatePolicy,
    amount=st.integers(1, 7) | st.integers(1, 50_000_000),
    period_s=st.sampled_from([0.01, 0.05, 1.0]),
    burst=st.none() | st.integers(1, 9),
)
# Arrivals: (milliseconds since the arrival before, cost).
ARRIVALS = st.lists(st.tuples(st.integers(0, 40) | st.integers(0, 2000), st.integers(0, 4)), max_size=40)


def decide(
    policy: RatePolicy, state: RateState | None, now_us: int, cost: int
) -> tuple[RateState | None, LimitDecision]:
    """Decides and charges one request, as a store does."""
    wait = gcra.wait_us(policy, state, now_us, cost)
    after = gcra.spend(policy, state, now_us, cost) if wait == 0 else state
    return after, gcra.decision(policy, after, now_us, wait)


def admitted(policy: RatePolicy, arrivals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The time in microseconds and the cost of each admitted request."""
    state: RateState | None = None
    now_us, passed = 10**15, []
    for gap_ms, cost in arrivals:
        now_us += gap_ms * MS
        state, decision = decide(policy, state, now_us, cost)
        if decision.admitted:
            passed.append((now_us, cost))
    return passed


@given(POLICIES, ARRIVALS)
def test_any_window_admits_at_most_burst_and_rate(policy: RatePolicy, arrivals: list[tuple[int, int]]) -> None:
    """Cost in [t, t + L] <= burst + amount L / period, for all t and L.

    Only windows that begin and end with an admission need a check.
    """
    passed = admitted(policy, arrivals)
    for first, last in itertools.combinations_with_replacement(range(len(passed)), 2):
        length_us = passed[last][0] - passed[first][0]
        cost = sum(cost for _, cost in passed[first : last + 1])
        assert (cost - policy.limit) * policy.period_us <= policy.amount * length_us


@given(POLICIES, st.integers(1, 9), st.integers(1, 20))
def test_bound_of_gcra_is_reached(policy: RatePolicy, cost: int, times: int) -> None:
    """A caller that waits the told time is admitted, and a microsecond earlier is not."""
    policy = attrs.evolve(policy, burst=max(cost, policy.burst or 0))
    state, now_us = gcra.spend(policy, None, 0, policy.limit), 0
    for _ in range(times):
        wait = gcra.wait_us(policy, state, now_us, cost)
        assert wait is not None
        assert wait == 0 or not decide(policy, state, now_us + wait - 1, cost)[1].admitted
        now_us += wait
        after, decision = decide(policy, state, now_us, cost)
        assert decision.admitted
        assert after is not None
        state = after


@given(POLICIES, ARRIVALS, st.integers(0, 12))
def test_remaining_is_exact(policy: RatePolicy, arrivals: list[tuple[int, int]], cost: int) -> None:
    """Exactly `remaining` more is admitted at the same moment, at once or one by one, and no more."""
    state: RateState | None = None
    now_us = 10**15
    for gap_ms, earlier in [*arrivals, (0, cost)]:
        now_us += gap_ms * MS
        state, decision = decide(policy, state, now_us, earlier)
        assert 0 <= decision.remaining <= decision.limit == policy.limit
        after, whole = decide(policy, state, now_us, decision.remaining)
        assert (whole.admitted, whole.remaining) == (True, 0)
        assert not decide(policy, after, now_us, 1)[1].admitted
        probe = state
        for left in range(min(decision.remaining, 20), 0, -1):
            probe, more = decide(policy, probe, now_us, 1)
            assert more.admitted
            assert more.remaining == decision.remaining - (min(decision.remaining, 20) - left) - 1


@given(POLICIES, ARRIVALS)
def test_whole_limit_is_free_after_reset(policy: RatePolicy, arrivals: list[tuple[int, int]]) -> None:
    state: RateState | None = None
    now_us = 10**15
    for gap_ms, cost in arrivals:
        now_us += gap_ms * MS
        state, decision = decide(policy, state, now_us, cost)
        reset_us = round(decision.reset_s * 1e6)
        assert decide(policy, state, now_us + reset_us, 0)[1].reset_s == 0.0
        assert not reset_us or decide(policy, state, now_us + reset_us - 1, 0)[1].reset_s > 0.0
        assert state is None or gcra.recovers_us(policy, state) <= now_us + reset_us


@given(POLICIES, st.lists(st.tuples(st.integers(-5000, 100), st.integers(0, 4)), max_size=40))
def test_clock_that_goes_back_frees_nothing(policy: RatePolicy, arrivals: list[tuple[int, int]]) -> None:
    """At an earlier time, no more is admitted than at the latest time."""
    state: RateState | None = None
    latest_us = now_us = 10**15
    for step_ms, cost in arrivals:
        now_us += step_ms * MS
        latest_us = max(latest_us, now_us)
        state, decision = decide(policy, state, now_us, cost)
        assert decision.remaining <= decide(policy, state, latest_us, 0)[1].remaining


def test_cost_above_the_burst_is_never_admitted() -> None:
    policy = RatePolicy(amount=10, period_s=1, burst=3)
    _, decision = decide(policy, None, 0, 4)
    assert (decision.admitted, decision.remaining, decision.retry_after_s) == (False, 3, None)


@pytest.mark.parametrize(("burst", "at_once"), [(None, 60), (1, 1), (5, 5)])
def test_burst_is_free_at_once_after_a_rest(burst: int | None, at_once: int) -> None:
    policy = RatePolicy(amount=60, period_s=60, burst=burst)
    assert len(admitted(policy, [(0, 1)] * 100)) == at_once
