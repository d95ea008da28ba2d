"""The tenant with the most of something is always found, and memory follows the number of tenants."""

from hypothesis import given
from hypothesis import strategies as st

from llmactors.ledger.core.shares import Shares

CHANGES = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 9)), max_size=200)


@given(CHANGES)
def test_largest_share_is_found_after_any_changes(changes: list[tuple[str, int]]) -> None:
    shares, amounts = Shares(), dict.fromkeys("abcde", 0)
    for tenant, amount in changes:
        change = amount - amounts[tenant]
        shares.add(tenant, change)
        amounts[tenant] = amount
        assert shares.total == sum(amounts.values())
        if shares.total:
            assert amounts[shares.largest()] == max(amounts.values())
        assert len(shares._heap) <= 2 * len(shares._amounts) + 16


def test_nothing_is_left_of_tenants_without_a_share() -> None:
    shares = Shares()
    for number in range(1000):
        shares.add(str(number), 1)
        shares.add(str(number), -1)
    assert shares.total == len(shares._amounts) == len(shares._heap) == 0
