"""A refunded reservation admits no more than a request for the used amount would have."""

import itertools

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmactors.limiter import fixed_window, gcra
from llmactors.limiter.algorithms import ALGORITHMS
from llmactors.limiter.policy import RateKind, RatePolicy, RateState

US = 1_000_000
GCRA = RatePolicy(amount=100, period_s=100)  # one per second
DAY = RatePolicy(kind=RateKind.FIXED_WINDOW, amount=100, period_s=86_400)
POLICIES = st.builds(
    RatePolicy, kind=st.sampled_from(RateKind), amount=st.integers(1, 12), period_s=st.sampled_from([1.0, 10.0])
)

# A step: milliseconds since the step before, and a cost to reserve, or the open reservation to settle and its use.
RESERVE = st.integers(1, 12)
SETTLE = st.tuples(st.integers(0, 5), st.integers(0, 12))
STEPS = st.lists(st.tuples(st.integers(0, 300) | st.integers(0, 20_000), RESERVE | SETTLE), max_size=40)


@attrs.define
class Admission:
    at_us: int
    reserved: int
    cost: int
    """The reservation; once it is settled, what was used."""
    mark: RateState
    settled: bool = False


def play(policy: RatePolicy, steps: list[tuple[int, int | tuple[int, int]]], check: bool = True) -> list[Admission]:
    """Plays the steps, and returns the admitted requests with their final costs. The policy holds after each step."""
    algorithm, state, now_us = ALGORITHMS[policy.kind], None, 10**15
    admissions: list[Admission] = []
    for gap_ms, step in steps:
        now_us += gap_ms * 1000
        if isinstance(step, int):
            if algorithm.wait_us(policy, state, now_us, step) == 0:
                state = algorithm.spend(policy, state, now_us, step)
                admissions.append(Admission(now_us, step, step, state))
        elif unsettled := [each for each in admissions if not each.settled]:
            which, used = step
            admission = unsettled[which % len(unsettled)]
            admission.cost, admission.settled = min(used, admission.reserved), True
            state = algorithm.settle(policy, state, now_us, admission.mark, admission.reserved, admission.cost)
        if check:
            assert_holds(policy, admissions)
    return admissions


def assert_holds(policy: RatePolicy, admissions: list[Admission]) -> None:
    if policy.kind is RateKind.FIXED_WINDOW:
        for _, window in itertools.groupby(admissions, lambda each: each.at_us // policy.period_us):
            assert sum(each.cost for each in window) <= policy.amount
        return
    for first, last in itertools.combinations_with_replacement(range(len(admissions)), 2):
        cost = sum(each.cost for each in admissions[first : last + 1])
        length_us = admissions[last].at_us - admissions[first].at_us
        assert (cost - policy.limit) * policy.period_us <= policy.amount * length_us


@given(POLICIES, STEPS)
@example(GCRA, [(0, 100), (100_000, 50), (0, (0, 0)), (0, 100)])
@example(GCRA, [(0, 50), (0, 50), (0, (0, 0)), (50_000, 50), (0, (0, 0)), (0, 100)])
def test_refund_never_admits_more_than_a_smaller_request(
    policy: RatePolicy, steps: list[tuple[int, int | tuple[int, int]]]
) -> None:
    """In no window does the used amount, counted at the times of admission, exceed the policy."""
    play(policy, steps)


@given(POLICIES, STEPS)
def test_refund_never_costs_anything(policy: RatePolicy, steps: list[tuple[int, int | tuple[int, int]]]) -> None:
    """A caller with a refund has never less left than a caller without one."""
    algorithm = ALGORITHMS[policy.kind]
    giving = keeping = None
    open_, now_us = list[tuple[RateState, int]](), 10**15
    for gap_ms, step in steps:
        now_us += gap_ms * 1000
        if isinstance(step, int):
            if algorithm.wait_us(policy, keeping, now_us, step) == 0:
                assert algorithm.wait_us(policy, giving, now_us, step) == 0
                giving = algorithm.spend(policy, giving, now_us, step)
                keeping = algorithm.spend(policy, keeping, now_us, step)
                open_.append((giving, step))
        elif open_:
            mark, reserved = open_.pop(step[0] % len(open_))
            giving = algorithm.settle(policy, giving, now_us, mark, reserved, min(step[1], reserved))


@pytest.mark.parametrize("policy", [GCRA, DAY])
def test_immediate_refund_is_free_at_once(policy: RatePolicy) -> None:
    algorithm = ALGORITHMS[policy.kind]
    mark = state = algorithm.spend(policy, None, 0, 100)
    after = algorithm.settle(policy, state, 0, mark, 100, 30)
    assert algorithm.decision(policy, after, 0, 0).remaining == 70


def test_drained_cost_is_not_refunded_again() -> None:
    """Of 100 reserved, 70 have drained, so only 30 of the 90 unused can be refunded."""
    mark = gcra.spend(GCRA, None, 0, 100)
    later = gcra.spend(GCRA, mark, 70 * US, 60)
    after = gcra.settle(GCRA, later, 70 * US, mark, 100, 10)
    assert gcra.decision(GCRA, after, 70 * US, 0).remaining == 40


def test_refund_goes_to_its_own_window_only() -> None:
    mark = fixed_window.spend(DAY, None, 0, 100)
    tomorrow = fixed_window.spend(DAY, mark, 86_400 * US, 60)
    after = fixed_window.settle(DAY, tomorrow, 86_400 * US, mark, 100, 0)
    assert fixed_window.decision(DAY, after, 86_400 * US, 0).remaining == 40


@pytest.mark.parametrize("policy", [GCRA, DAY])
def test_use_above_the_reservation_is_charged(policy: RatePolicy) -> None:
    algorithm = ALGORITHMS[policy.kind]
    mark = state = algorithm.spend(policy, None, 0, 90)
    after = algorithm.settle(policy, state, 0, mark, 90, 110)
    assert algorithm.decision(policy, after, 0, 0).remaining == 0
    assert algorithm.wait_us(policy, after, 0, 1) != 0


def test_forgotten_state_takes_no_refund() -> None:
    """The bucket was empty since the reservation, so nothing of the reservation is left."""
    mark = gcra.spend(
        GCRA, gcra.settle(GCRA, gcra.spend(GCRA, None, 0, 100), 0, gcra.spend(GCRA, None, 0, 100), 100, 0), 0, 50
    )
    fresh = gcra.spend(GCRA, None, 50 * US + 1, 60)
    assert gcra.settle(GCRA, fresh, 50 * US + 1, mark, 50, 0) == fresh
    assert gcra.settle(GCRA, None, 50 * US + 1, mark, 50, 0) is None
