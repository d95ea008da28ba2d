"""What a fixed window promises, and what it does not promise."""

import collections
import itertools

from hypothesis import given
from hypothesis import strategies as st

from llmactors.limiter import fixed_window as window
from llmactors.limiter.policy import LimitDecision, RateKind, RatePolicy, RateState

MS = 1000
POLICIES = st.builds(
    RatePolicy,
    kind=st.just(RateKind.FIXED_WINDOW),
    amount=st.integers(1, 7),
    period_s=st.sampled_from([0.01, 0.05, 1.0]),
)
ARRIVALS = st.lists(st.tuples(st.integers(0, 30) | st.integers(0, 1500), st.integers(0, 4)), max_size=60)


def fixed_window(
    policy: RatePolicy, state: RateState | None, now_us: int, cost: int
) -> tuple[RateState | None, LimitDecision]:
    """Decides and charges one request, as a store does."""
    wait = window.wait_us(policy, state, now_us, cost)
    after = window.spend(policy, state, now_us, cost) if wait == 0 else state
    return after, window.decision(policy, after, now_us, wait)


def admitted(policy: RatePolicy, arrivals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    state: RateState | None = None
    now_us, passed = 10**15 + 7, []
    for gap_ms, cost in arrivals:
        now_us += gap_ms * MS
        state, decision = fixed_window(policy, state, now_us, cost)
        if decision.admitted:
            passed.append((now_us, cost))
    return passed


@given(POLICIES, ARRIVALS)
def test_aligned_window_admits_at_most_the_limit(policy: RatePolicy, arrivals: list[tuple[int, int]]) -> None:
    passed = admitted(policy, arrivals)
    aligned: collections.Counter[int] = collections.Counter()
    for moment_us, cost in passed:
        aligned[moment_us // policy.period_us] += cost
    assert all(used <= policy.amount for used in aligned.values())
    for first, last in itertools.combinations_with_replacement(range(len(passed)), 2):
        if passed[last][0] - passed[first][0] < policy.period_us:
            assert sum(cost for _, cost in passed[first : last + 1]) <= 2 * policy.amount


def test_two_windows_can_admit_twice_the_limit_at_their_border() -> None:
    policy = RatePolicy(kind=RateKind.FIXED_WINDOW, amount=5, period_s=1)
    state: RateState | None = None
    for moment_us in (999 * MS, 1000 * MS):
        for _ in range(5):
            state, decision = fixed_window(policy, state, moment_us, 1)
            assert decision.admitted
        assert not fixed_window(policy, state, moment_us, 1)[1].admitted


@given(POLICIES, ARRIVALS)
def test_remaining_is_exact_and_refusals_cost_nothing(policy: RatePolicy, arrivals: list[tuple[int, int]]) -> None:
    state: RateState | None = None
    now_us = 10**15
    for gap_ms, cost in arrivals:
        now_us += gap_ms * MS
        before = state
        state, decision = fixed_window(policy, state, now_us, cost)
        assert decision.admitted or state == before
        probe = state
        for _ in range(decision.remaining):
            probe, more = fixed_window(policy, probe, now_us, 1)
            assert more.admitted
        assert not fixed_window(policy, probe, now_us, 1)[1].admitted
        assert fixed_window(policy, state, now_us + round(decision.reset_s * 1e6), 0)[1].remaining == policy.amount


@given(POLICIES, st.lists(st.integers(-3000, 1000), max_size=40))
def test_window_stays_when_the_clock_goes_back(policy: RatePolicy, steps_ms: list[int]) -> None:
    state: RateState | None = None
    now_us, latest_us = 10**15, 0
    for step_ms in steps_ms:
        now_us += step_ms * MS
        latest_us = max(latest_us, now_us)
        before = state
        state, _ = fixed_window(policy, state, now_us, 1)
        assert state is None or before is None or state.at_us >= before.at_us
        assert state is None or state.at_us == (latest_us // policy.period_us + 1) * policy.period_us


def test_cost_above_the_limit_is_never_admitted() -> None:
    policy = RatePolicy(kind=RateKind.FIXED_WINDOW, amount=5, period_s=1)
    _, decision = fixed_window(policy, None, 0, 6)
    assert (decision.admitted, decision.remaining, decision.reset_s, decision.retry_after_s) == (False, 5, 0.0, None)
