"""The tickets of one process: each opens one socket, once, and within its lifetime."""

import pytest

from llmactors.access.keys.text import Credential, Digest
from llmactors.access.tickets import LIFE_S, STREAM_S, MemoryTickets, is_ticket
from llmactors.errors import Overloaded

CREDENTIAL = Credential("id", Digest.of(b"secret"))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_ticket_is_redeemed_once_for_its_credential() -> None:
    tickets = MemoryTickets()
    first, second = await tickets.issue(CREDENTIAL), await tickets.issue(None)
    assert first != second
    assert is_ticket(first)
    assert await tickets.redeem(first) == (CREDENTIAL,)
    assert await tickets.redeem(first) is None
    assert await tickets.redeem(second) == (None,)
    assert await tickets.redeem("llt_nonsense") is None


async def test_expired_ticket_is_refused_and_forgotten() -> None:
    clock = Clock()
    tickets = MemoryTickets(max_tickets=2, clock=clock)
    old = await tickets.issue(CREDENTIAL)
    await tickets.issue(CREDENTIAL)
    with pytest.raises(Overloaded):
        await tickets.issue(CREDENTIAL)
    clock.now = LIFE_S
    assert await tickets.redeem(old) is None
    assert await tickets.redeem(await tickets.issue(CREDENTIAL)) == (CREDENTIAL,)


async def test_tickets_are_stored_as_digests_only() -> None:
    tickets = MemoryTickets()
    ticket = await tickets.issue(CREDENTIAL)
    assert ticket not in f"{tickets!r} {tickets._issued!r}"


async def test_one_key_cannot_take_all_tickets() -> None:
    clock = Clock()
    tickets = MemoryTickets(max_of_one=2, clock=clock)
    greedy, other = CREDENTIAL, Credential("other", Digest.of(b"else"))
    first = await tickets.issue(greedy)
    await tickets.issue(greedy)
    with pytest.raises(Overloaded):
        await tickets.issue(greedy)
    assert await tickets.redeem(await tickets.issue(other)) == (other,)
    for _ in range(3):
        await tickets.issue(None)
    assert await tickets.redeem(first) == (greedy,)
    await tickets.issue(greedy)
    clock.now = LIFE_S
    assert [await tickets.issue(greedy) for _ in range(2)]
    assert not tickets._open_of.keys() - {"id"}


async def test_ticket_for_a_stream_opens_only_that_stream_again() -> None:
    clock = Clock()
    tickets = MemoryTickets(clock=clock)
    ticket = await tickets.issue(CREDENTIAL)
    for at in (0.0, LIFE_S, STREAM_S, 2 * STREAM_S - 1):
        clock.now = at
        assert await tickets.redeem_for("req_a", ticket) == (CREDENTIAL,)
        assert await tickets.redeem_for("req_b", ticket) is None
        assert await tickets.redeem(ticket) is None
    clock.now = 3 * STREAM_S
    assert await tickets.redeem_for("req_a", ticket) is None


async def test_used_and_old_tickets_open_no_stream() -> None:
    clock = Clock()
    tickets = MemoryTickets(clock=clock)
    used, old = await tickets.issue(None), await tickets.issue(None)
    assert await tickets.redeem(used) == (None,)
    assert await tickets.redeem_for("req_a", used) is None
    clock.now = LIFE_S
    assert await tickets.redeem_for("req_a", old) is None


async def test_tickets_of_streams_are_bounded() -> None:
    tickets = MemoryTickets(max_tickets=2)
    opened = []
    for number in range(3):
        opened.append(await tickets.issue(CREDENTIAL))
        assert await tickets.redeem_for(f"req_{number}", opened[-1]) == (CREDENTIAL,)
    found = [await tickets.redeem_for(f"req_{number}", ticket) for number, ticket in enumerate(opened)]
    assert found == [None, (CREDENTIAL,), (CREDENTIAL,)]
