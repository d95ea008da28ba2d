"""What a fixed window promises, and what it does not."""

import collections
import itertools

from hypothesis import given
from hypothesis import strategies as st

from llmactors.limiter.fixed_window import fixed_window
from llmactors.limiter.policy import RateKind, RatePolicy, State

MS = 1_000_000
POLICIES = st.builds(
    RatePolicy,
    kind=st.just(RateKind.FIXED_WINDOW),
    requests=st.integers(1, 7),
    period_s=st.sampled_from([0.01, 0.05, 1.0]),
)
ARRIVALS = st.lists(st.tuples(st.integers(0, 30) | st.integers(0, 1500), st.integers(0, 4)), max_size=60)


def admitted(policy: RatePolicy, arrivals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    state: State | None = None
    now_ns, passed = 10**15 + 7, []
    for gap_ms, cost in arrivals:
        now_ns += gap_ms * MS
        state, decision = fixed_window(policy, state, now_ns, cost)
        if decision.admitted:
            passed.append((now_ns, cost))
    return passed


@given(POLICIES, ARRIVALS)
def test_no_aligned_window_admits_more_than_the_limit_and_no_window_more_than_twice(
    policy: RatePolicy, arrivals: list[tuple[int, int]]
) -> None:
    passed = admitted(policy, arrivals)
    aligned: collections.Counter[int] = collections.Counter()
    for moment_ns, cost in passed:
        aligned[moment_ns // policy.period_ns] += cost
    assert all(used <= policy.requests for used in aligned.values())
    for first, last in itertools.combinations_with_replacement(range(len(passed)), 2):
        if passed[last][0] - passed[first][0] < policy.period_ns:
            assert sum(cost for _, cost in passed[first : last + 1]) <= 2 * policy.requests


def test_twice_the_limit_around_a_border_does_happen() -> None:
    policy = RatePolicy(kind=RateKind.FIXED_WINDOW, requests=5, period_s=1)
    state: State | None = None
    for moment_ns in (999 * MS, 1000 * MS):
        for _ in range(5):
            state, decision = fixed_window(policy, state, moment_ns, 1)
            assert decision.admitted
        assert not fixed_window(policy, state, moment_ns, 1)[1].admitted


@given(POLICIES, ARRIVALS)
def test_remaining_is_truthful_and_refusals_cost_nothing(policy: RatePolicy, arrivals: list[tuple[int, int]]) -> None:
    state: State | None = None
    now_ns = 10**15
    for gap_ms, cost in arrivals:
        now_ns += gap_ms * MS
        before, _ = fixed_window(policy, state, now_ns, 0)
        state, decision = fixed_window(policy, state, now_ns, cost)
        assert decision.admitted or state == before
        probe = state
        for _ in range(decision.remaining):
            probe, more = fixed_window(policy, probe, now_ns, 1)
            assert more.admitted
        assert not fixed_window(policy, probe, now_ns, 1)[1].admitted
        assert fixed_window(policy, state, now_ns + round(decision.reset_s * 1e9), 0)[1].remaining == policy.requests


@given(POLICIES, st.lists(st.integers(-3000, 1000), max_size=40))
def test_a_clock_that_goes_back_stays_in_its_window(policy: RatePolicy, steps_ms: list[int]) -> None:
    state: State | None = None
    now_ns, latest_ns = 10**15, 0
    for step_ms in steps_ms:
        now_ns += step_ms * MS
        latest_ns = max(latest_ns, now_ns)
        before = state
        state, _ = fixed_window(policy, state, now_ns, 1)
        assert before is None or state >= before
        assert state[0] == (latest_ns // policy.period_ns + 1) * policy.period_ns


def test_what_costs_more_than_the_limit_is_never_admitted_and_says_so() -> None:
    policy = RatePolicy(kind=RateKind.FIXED_WINDOW, requests=5, period_s=1)
    _, decision = fixed_window(policy, None, 0, 6)
    assert (decision.admitted, decision.remaining, decision.reset_s, decision.retry_after_s) == (False, 5, 0.0, None)
