"""The store keeps every state that matters, and is bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors import errors
from llmactors.limiter import LimiterStore, LimiterStoreStatistics, RateKind, RatePolicy

POLICIES = st.one_of(
    st.builds(
        RatePolicy, requests=st.integers(1, 7), period_s=st.floats(0.001, 100), burst=st.none() | st.integers(1, 9)
    ),
    st.builds(
        RatePolicy,
        kind=st.just(RateKind.FIXED_WINDOW),
        requests=st.integers(1, 7),
        period_s=st.floats(0.001, 100),
    ),
)
PER_SECOND = RatePolicy(requests=1, period_s=1)


@given(POLICIES, st.floats(0, 2**31), st.integers(1, 7), st.lists(st.floats(0, 3), max_size=20))
def test_who_is_refused_and_waits_just_as_told_is_admitted(
    policy: RatePolicy, began_s: float, cost: int, gaps_s: list[float]
) -> None:
    """In floats, on clocks that count from a boot as on those that count from 1970."""
    store, now_s = LimiterStore(), began_s
    for gap_s in [*gaps_s, *[0.0] * 10]:
        now_s += gap_s
        decision = store.decide("a", policy, now_s, cost)
        if decision.retry_after_s is not None:
            assert not decision.admitted
            now_s += decision.retry_after_s
            assert store.decide("a", policy, now_s, cost).admitted
        else:
            assert decision.admitted == (cost <= policy.limit)


@given(st.lists(st.tuples(st.sampled_from("abcde"), POLICIES, st.floats(0, 1), st.integers(0, 3)), max_size=60))
def test_forgetting_changes_no_decision(calls: list[tuple[str, RatePolicy, float, int]]) -> None:
    """A store shared by all decides as one store per caller and policy would; those never forget."""
    shared, alone = LimiterStore(), dict[tuple[str, RatePolicy], LimiterStore]()
    now_s = 1e6
    for key, policy, gap_s, cost in calls:
        now_s += gap_s
        own = alone.setdefault((key, policy), LimiterStore())
        assert shared.decide(key, policy, now_s, cost) == own.decide(key, policy, now_s, cost)
    assert shared.statistics().evicted_early_total == 0


def test_callers_and_policies_are_limited_apart() -> None:
    store = LimiterStore()
    other = RatePolicy(requests=1, period_s=2)
    assert [store.decide(key, policy, 0).admitted for key in "ab" for policy in (PER_SECOND, other)] == [True] * 4
    assert [store.decide(key, policy, 0).admitted for key in "ab" for policy in (PER_SECOND, other)] == [False] * 4


def test_the_recovered_are_forgotten_little_by_little() -> None:
    store = LimiterStore(max_keys=1000)
    for number in range(500):
        store.decide(f"early {number}", PER_SECOND, 0.0)
    for number in range(200):
        store.decide(f"late {number}", PER_SECOND, 2.0)
    assert store.statistics() == LimiterStoreStatistics(keys=200, max_keys=1000, evicted_early_total=0)
    assert repr(store) == "<LimiterStore 200/1000 keys>"


def test_over_its_bound_it_forgets_those_nearest_to_recovery() -> None:
    store = LimiterStore(max_keys=2)
    slow = RatePolicy(requests=1, period_s=100)
    store.decide("slow", slow, 0.0)
    store.decide("soon", PER_SECOND, 0.0)
    store.decide("later", PER_SECOND, 0.5)
    assert store.statistics() == LimiterStoreStatistics(keys=2, max_keys=2, evicted_early_total=1)
    assert not store.decide("slow", slow, 0.5).admitted
    assert not store.decide("later", PER_SECOND, 0.5).admitted
    assert store.decide("soon", PER_SECOND, 0.5).admitted


def test_the_bound_looks_at_recoveries_as_they_are_now() -> None:
    """`busy` was first to come, but what it used since makes it the last to recover."""
    store = LimiterStore(max_keys=2)
    policy = RatePolicy(requests=10, period_s=10)
    for _ in range(5):
        store.decide("busy", policy, 0.0)
    store.decide("calm", policy, 0.0)
    store.decide("new", policy, 0.0, cost=2)
    assert store.decide("busy", policy, 0.0, cost=0).remaining == 5
    assert store.decide("calm", policy, 0.0, cost=0).remaining == 10


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 0.5)), max_size=100), st.integers(1, 5))
def test_it_is_bounded_whatever_comes(calls: list[tuple[int, float]], max_keys: int) -> None:
    store, now_s = LimiterStore(max_keys=max_keys), 0.0
    for key, gap_s in calls:
        now_s += gap_s
        store.decide(str(key), PER_SECOND, now_s)
        assert store.statistics().keys <= max_keys


def test_questions_and_refusals_of_strangers_are_not_remembered() -> None:
    store = LimiterStore()
    store.decide("asks", PER_SECOND, 0.0, cost=0)
    store.decide("too much", PER_SECOND, 0.0, cost=2)
    assert store.statistics().keys == 0


@pytest.mark.parametrize("kind", list(RateKind))
def test_a_clock_that_goes_back_mints_nothing_also_for_the_forgotten(kind: RateKind) -> None:
    """It stands still at 11: `a`, whose use of 10 is forgotten by then, has one request there and not one at 10 too."""
    store = LimiterStore()
    policy = RatePolicy(kind=kind, requests=1, period_s=1)
    calls = [("a", 10.0, True), ("b", 11.0, True), ("a", 10.0, True), ("a", 11.0, False), ("b", 0.0, False)]
    for key, now_s, admitted in calls:
        assert store.decide(key, policy, now_s).admitted == admitted


@given(st.integers(1, 10**9), st.floats(0.001, 1e5))
def test_an_interval_is_never_shorter_than_the_rate_says(requests: int, period_s: float) -> None:
    policy = RatePolicy(requests=requests, period_s=period_s)
    assert 0 <= policy.interval_ns * requests - policy.period_ns < requests


def test_nothing_is_given_back() -> None:
    with pytest.raises(ValueError, match="cost is -1"):
        LimiterStore().decide("a", PER_SECOND, 0.0, cost=-1)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"requests": 0, "period_s": 1}, "requests is 0"),
        ({"requests": 1, "period_s": 0}, "period_s is 0"),
        ({"requests": 1, "period_s": float("nan")}, "period_s is nan"),
        ({"requests": 1, "period_s": float("inf")}, "period_s is inf"),
        ({"requests": 1, "period_s": 1, "burst": 0}, "burst is 0"),
        ({"requests": 1, "period_s": 1, "burst": 2, "kind": RateKind.FIXED_WINDOW}, "has no burst"),
    ],
)
def test_a_policy_without_sense_is_refused(fields: dict[str, float], complaint: str) -> None:
    with pytest.raises(errors.ConfigError, match=complaint):
        RatePolicy(**fields)  # type: ignore[arg-type]
