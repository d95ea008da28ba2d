"""What the next gateway finds of a journal."""

import mmap
import os
import random
import socket
from collections.abc import Iterator

import pytest

from llmactors.http.held_journal import HeldJournal
from llmactors.http.keeper_link import GivenConnection, KeeperLink
from llmactors.http.short_journal import SHORT_JOURNAL_BYTES
from llmactors.keeper.connections import ConnectionCopy
from llmactors.keeper.gateway_process import received
from llmactors.keeper.protocol import Given, Piece, Trim
from llmactors.keeper.slots import SLOT_BYTES

RNG = random.Random(1)
SHORT, BEGIN, LONG = RNG.randbytes(300), RNG.randbytes(200), RNG.randbytes(2 * SHORT_JOURNAL_BYTES)


class Gateways:
    """Journals of one connection, of gateways one after the other, and the keeper's copy."""

    def __init__(self) -> None:
        self.keeper, self.channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link = KeeperLink(self.channel, mmap.mmap(-1, SLOT_BYTES), "t", ("127.0.0.1", 1))
        self.copy = ConnectionCopy(os.open(os.devnull, os.O_RDONLY), 0)

    def next(self) -> tuple[HeldJournal, bytes]:
        """The journal of the next gateway, and what the one before left."""
        for message, _ in received(self.keeper):
            if isinstance(message, Piece):
                self.copy.add(message)
            elif isinstance(message, Trim):
                self.copy.trim(message)
        told = Given(1, 0, self.copy.journal_at, self.copy.base_out, taken_over=True, age_ms=0, more=False)
        journal = HeldJournal(told, self.link)
        return journal, journal.read_left(GivenConnection(told, self.keeper, bytearray(self.copy.journal or b"")))


@pytest.fixture
def gateways() -> Iterator[Gateways]:
    found = Gateways()
    yield found
    found.keeper.close()
    found.channel.close()
    found.copy.close()


@pytest.mark.parametrize("parts", [(LONG,), (BEGIN, LONG), (BEGIN, LONG, BEGIN)])
def test_long_request_behind_an_answer_that_two_gateways_end(gateways: Gateways, parts: tuple[bytes, ...]) -> None:
    """The second one writes the rest of the answer, and dies amid the long request that follows."""
    first, _ = gateways.next()
    first.add(SHORT)
    second, left = gateways.next()
    assert left == SHORT
    second.needs_record = True
    second.trim_to(len(SHORT), 1000)
    for number, part in enumerate(parts):
        if second.will_forget(len(part)):
            second.record_is_written()
        second.add(part)
        third, left = gateways.next()
        # Until the end of the answer is written, its request is needed.
        expected = b"".join(parts[: number + 1])
        assert left == (SHORT + expected if second.needs_record else expected)
        assert third.base_out == (0 if second.needs_record else 1000)


def test_long_request_behind_a_short_one(gateways: Gateways) -> None:
    journal, _ = gateways.next()
    for turn in range(3):
        journal.add(SHORT)
        journal.trim_to(journal.end, 100 * turn)
        journal.add(BEGIN)
        journal.add(LONG)
        assert gateways.next()[1] == BEGIN + LONG
        journal.trim_to(journal.end, 100 * turn + 50)
        assert gateways.next()[1] == b""
