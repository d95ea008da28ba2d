"""The messages of the keeper, and the records of writes in shared memory."""

from typing import get_args

import pytest

from llmactors.keeper.protocol import (
    MAX_MESSAGE_BYTES,
    MAX_PIECE_BYTES,
    Active,
    AllGiven,
    BadMessage,
    Beat,
    Begin,
    Done,
    Given,
    Go,
    Large,
    Message,
    Note,
    Piece,
    StopAccepting,
    Trim,
    Unprotected,
    Warm,
    decode,
    encode,
)

MOST = 2**64 - 1
MESSAGES: list[Message] = [
    Given(MOST, 2**32 - 1, MOST, MOST, taken_over=True, age_ms=MOST, more=True),
    Given(1, 0, 0, 0, taken_over=False, age_ms=0, more=False),
    Begin(7),
    Go(),
    AllGiven(),
    Warm(),
    Active(),
    Beat(),
    StopAccepting(),
    Trim(8, 100, MOST),
    Large(8, 3),
    Unprotected(9),
    Done(10),
    Piece(11, 5, b"GET / HTTP/1.1\r\n"),
    Piece(12, 0, b""),
    Piece(13, MOST, b"x" * MAX_PIECE_BYTES),
    Note(14, 2, b"+req_1"),
    Note(15, MOST, b"x" * MAX_PIECE_BYTES),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_message_survives_round_trip(message: Message) -> None:
    packet = encode(message)
    assert len(packet) <= MAX_MESSAGE_BYTES
    again = decode(packet)
    assert (type(again), again) == (type(message), message)


def test_every_message_is_tried() -> None:
    assert {type(message) for message in MESSAGES} == {*get_args(Message)}


@pytest.mark.parametrize("packet", [b"", b"?", b"D", b"D1234567890", b"GG", b"J12"])
def test_other_bytes_are_no_message(packet: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(packet)
