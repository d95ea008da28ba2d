"""What a request is charged, and the tokens that it has used at its end."""

import attrs
import pytest

from llmactors.errors import ConfigError
from llmactors.limiter import Limit, Limits, RatePolicy, charges_for
from llmactors.limiter.share import share_of

ALL = Limits(requests_per_minute=60, tokens_per_minute=9000, tokens_per_day=100_000, concurrent=4)


def test_only_limits_that_are_set_are_charged() -> None:
    charges = charges_for(ALL, "t", tokens=30, rate=RatePolicy(amount=5, period_s=1), limit_key="address:::1")
    assert {charge.limit: (charge.most, charge.cost) for charge in charges} == {
        Limit.RATE: (5, 1),
        Limit.REQUESTS: (60, 1),
        Limit.TOKENS: (9000, 30),
        Limit.DAY: (100_000, 30),
        Limit.CONCURRENT: (4, 1),
    }
    assert len({charge.key for charge in charges}) == 5
    assert charges_for(Limits(), "t", tokens=30) == ()


def test_tenants_with_long_names_are_counted_apart() -> None:
    keys = {charge.key for tenant in ("a", "b", "x" * 500, "x" * 501) for charge in charges_for(ALL, tenant, tokens=1)}
    assert len(keys) == 16
    assert max(len(key) for key in keys) < 120


def test_shares_of_all_gateways_stay_within_the_limit() -> None:
    for charge in charges_for(ALL, "t", tokens=30, rate=RatePolicy(amount=7, period_s=1, burst=5), limit_key="k"):
        share = share_of(charge, 3)
        assert share.most * 3 <= charge.most
        assert share.policy is None or charge.policy is None or share.policy.amount * 3 <= charge.policy.amount
        assert 1 <= share_of(charge, 1000).cost <= share_of(charge, 1000).most


@pytest.mark.parametrize("bound", [0, -1, 10**12 + 1, 2**64])
def test_bound_out_of_range_is_refused(bound: int) -> None:
    """Redis refuses a number of more than 64 bits, so such a bound would fail every request."""
    for name in ("requests_per_minute", "tokens_per_minute", "tokens_per_day", "concurrent"):
        with pytest.raises(ConfigError, match=f"limits: {name} is {bound}, must be at"):
            attrs.evolve(Limits(), **{name: bound})  # type: ignore[arg-type]
