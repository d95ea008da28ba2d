"""How many connections a server holds."""

from llmactors.errors import RateLimited, Unavailable
from llmactors.http.connection_limits import Capacity, ConnectionLimits


def test_an_address_has_its_own_limit() -> None:
    limits = ConnectionLimits(Capacity(most=5, of_one_address=2, reserve=1))
    assert [type(limits.enter("a")) for _ in range(3)] == [type(None), type(None), RateLimited]
    assert limits.enter("b") is None
    limits.leave("a")
    assert limits.enter("a") is None


def test_all_addresses_together_have_a_limit() -> None:
    limits = ConnectionLimits(Capacity(most=3, of_one_address=2, reserve=1))
    assert [type(limits.enter(address)) for address in "abcd"] == [type(None)] * 3 + [Unavailable]
    limits.leave("b")
    assert limits.enter("d") is None


def test_left_addresses_are_forgotten() -> None:
    limits = ConnectionLimits(Capacity())
    for address in map(str, range(100)):
        limits.enter(address)
        limits.leave(address)
    assert not limits._of_address


def test_capacity_leaves_files_for_other_work() -> None:
    capacity = Capacity(most=4096, of_one_address=1024, reserve=64)
    assert capacity.within(100_000, 20) == capacity
    small = capacity.within(64, 15)
    assert 1 <= small.most + small.reserve <= 64 - 15
    assert small.reserve >= 1
    tiny = capacity.within(8, 8)
    assert (tiny.most, tiny.reserve) == (1, 1)
