"""The store keeps every state that can change a decision, and is bounded."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors import errors
from llmactors.limiter import Charge, Limit, LimitDecision, LimiterStore, RateKind, RatePolicy, Used
from llmactors.limiter.policy import to_us

POLICIES = st.one_of(
    st.builds(
        RatePolicy, amount=st.integers(1, 7), period_s=st.floats(0.001, 100), burst=st.none() | st.integers(1, 9)
    ),
    st.builds(
        RatePolicy,
        kind=st.just(RateKind.FIXED_WINDOW),
        amount=st.integers(1, 7),
        period_s=st.floats(0.001, 100),
    ),
)
PER_SECOND = RatePolicy(amount=1, period_s=1)


def charge(key: str, policy: RatePolicy, cost: int = 1, limit: Limit = Limit.RATE) -> Charge:
    return Charge(limit, key, policy, policy.limit, cost)


def permit(key: str, most: int) -> Charge:
    return Charge(Limit.CONCURRENT, key, None, most)


def decide(store: LimiterStore, key: str, policy: RatePolicy, now_s: float, cost: int = 1) -> LimitDecision:
    """Decides and charges one request."""
    [standing] = store.look([charge(key, policy, cost)], to_us(now_s))
    if standing.decision.admitted:
        store.charge("r", [charge(key, policy, cost)], to_us(now_s))
    return standing.decision


@given(POLICIES, st.floats(0, 2**31), st.integers(1, 7), st.lists(st.floats(0, 3), max_size=20))
def test_caller_is_admitted_after_the_time_it_was_told(
    policy: RatePolicy, began_s: float, cost: int, gaps_s: list[float]
) -> None:
    """This holds for float clocks that count from the boot, and for those that count from 1970."""
    store, now_s = LimiterStore(), began_s
    for gap_s in [*gaps_s, *[0.0] * 10]:
        now_s += gap_s
        decision = decide(store, "a", policy, now_s, cost)
        if decision.retry_after_s is not None:
            assert not decision.admitted
            now_s += decision.retry_after_s
            assert decide(store, "a", policy, now_s, cost).admitted
        else:
            assert decision.admitted == (cost <= policy.limit)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.floats(0, 1), st.integers(1, 3)), max_size=60), POLICIES)
def test_forgetting_changes_no_decision(calls: list[tuple[str, float, int]], policy: RatePolicy) -> None:
    """One store for all callers decides as one store for each caller, which never forgets a state."""
    shared, alone = LimiterStore(), dict[str, LimiterStore]()
    now_s = 1e6
    for key, gap_s, cost in calls:
        now_s += gap_s
        own = alone.setdefault(key, LimiterStore())
        assert decide(shared, key, policy, now_s, cost) == decide(own, key, policy, now_s, cost)


def test_charges_are_taken_all_or_none() -> None:
    store = LimiterStore()
    plenty, scarce = charge("plenty", RatePolicy(amount=9, period_s=60)), charge("scarce", PER_SECOND, cost=1)
    store.charge("r", [scarce], 0)
    standings = store.look([plenty, scarce], 0)
    assert [standing.decision.admitted for standing in standings] == [True, False]
    assert [standing.decision.remaining for standing in standings] == [9, 0]
    assert [standing.decision.remaining for standing in store.look([plenty], 0)] == [8]


def test_charges_of_one_call_are_added_up() -> None:
    store = LimiterStore()
    three = [charge("a", RatePolicy(amount=2, period_s=60))] * 3
    [standing] = store.look(three, 0)
    assert (standing.decision.admitted, standing.decision.retry_after_s, standing.charge.cost) == (False, None, 3)
    [standing] = store.look(three[:2], 0)
    assert (standing.decision.admitted, standing.decision.remaining) == (True, 0)


def test_permit_closed_twice_frees_no_other() -> None:
    store = LimiterStore()
    holds = {name: store.charge(name, [permit("t", 2)], 0) for name in "ab"}
    [refused] = store.look([permit("t", 2)], 0)
    assert (refused.decision.admitted, refused.decision.remaining, refused.decision.retry_after_s) == (False, 0, 1.0)
    for _ in range(2):
        store.settle("a", holds["a"], Used(0, 0), 0)
    [admitted] = store.look([permit("t", 2)], 0)
    assert (admitted.decision.admitted, admitted.decision.remaining) == (True, 0)


def test_reservation_is_settled_once() -> None:
    store = LimiterStore()
    tokens = charge("t", RatePolicy(amount=100, period_s=100), 80, Limit.TOKENS)
    holds = store.charge("r", [tokens], 0)
    assert store.look([attrs.evolve(tokens, cost=0)], 0)[0].decision.remaining == 20
    store.settle("r", holds, Used(5, 0), 0)
    assert store.look([attrs.evolve(tokens, cost=0)], 0)[0].decision.remaining == 95


def test_recovered_states_are_forgotten_a_few_at_a_time() -> None:
    store = LimiterStore(max_keys=1000)
    for number in range(500):
        decide(store, f"early {number}", PER_SECOND, 0.0)
    for number in range(200):
        decide(store, f"late {number}", PER_SECOND, 2.0)
    assert len(store) == 200
    assert repr(store).startswith("<LimiterStore 200/1000 keys")


def test_full_store_forgets_states_nearest_to_recovery() -> None:
    store = LimiterStore(max_keys=2)
    slow = RatePolicy(amount=1, period_s=100)
    decide(store, "slow", slow, 0.0)
    decide(store, "soon", PER_SECOND, 0.0)
    decide(store, "later", PER_SECOND, 0.5)
    assert len(store) == 2
    assert not decide(store, "slow", slow, 0.5).admitted
    assert not decide(store, "later", PER_SECOND, 0.5).admitted
    assert decide(store, "soon", PER_SECOND, 0.5).admitted


def test_full_store_uses_current_recovery_times() -> None:
    """`busy` came first, but recovers last, because of what it has used since."""
    store = LimiterStore(max_keys=2)
    policy = RatePolicy(amount=10, period_s=10)
    for _ in range(5):
        decide(store, "busy", policy, 0.0)
    decide(store, "calm", policy, 0.0)
    decide(store, "new", policy, 0.0, cost=2)
    assert decide(store, "busy", policy, 0.0, cost=0).remaining == 5
    assert decide(store, "calm", policy, 0.0, cost=0).remaining == 10


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 0.5)), max_size=100), st.integers(1, 5))
def test_number_of_states_is_bounded(calls: list[tuple[int, float]], max_keys: int) -> None:
    store, now_s = LimiterStore(max_keys=max_keys), 0.0
    for key, gap_s in calls:
        now_s += gap_s
        decide(store, str(key), PER_SECOND, now_s)
        assert len(store) <= max_keys


def test_refused_callers_leave_no_state() -> None:
    store = LimiterStore()
    store.look([charge("asks", PER_SECOND, 0), charge("too much", PER_SECOND, 2)], 0)
    assert len(store) == 0


@pytest.mark.parametrize("kind", [RateKind.GCRA, RateKind.FIXED_WINDOW])
def test_clock_that_goes_back_frees_nothing_in_the_store(kind: RateKind) -> None:
    """Time stands still at 11.5. `a`, whose use at 10 is forgotten, may use one now, and not another one at 10."""
    store = LimiterStore()
    policy = RatePolicy(kind=kind, amount=1, period_s=1)
    calls = [("a", 10.0, True), ("b", 11.5, True), ("a", 10.0, True), ("a", 11.5, False), ("b", 0.0, False)]
    for key, now_s, admitted in calls:
        assert decide(store, key, policy, now_s).admitted == admitted


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"amount": 0, "period_s": 1}, "amount is 0"),
        ({"amount": 1, "period_s": 0}, "period_s is 0"),
        ({"amount": 1, "period_s": float("nan")}, "period_s is nan"),
        ({"amount": 1, "period_s": float("inf")}, "period_s is inf"),
        ({"amount": 1, "period_s": 1, "burst": 0}, "burst is 0"),
        ({"amount": 1, "period_s": 1, "burst": 2, "kind": RateKind.FIXED_WINDOW}, "has no burst"),
    ],
)
def test_policy_out_of_range_is_refused(fields: dict[str, float], complaint: str) -> None:
    with pytest.raises(errors.ConfigError, match=complaint):
        RatePolicy(**fields)  # type: ignore[arg-type]
