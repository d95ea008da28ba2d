"""What a gateway does with a connection that an earlier gateway had: decided from what that gateway left. Pure.

The earlier gateway journalled what it took from the client before it took it, and recorded each write before it wrote.
So the journal and the newest record, together with the kernel's counters, say how far the connection has come.
"""

from collections.abc import Mapping, Sequence
from enum import Enum

import attrs

from llmactors.http.write_records import CLOSE, COMPLETE, INTERIM, SOCKET, WriteRecord

HEAD_KEY = 0
"""The key of the note with the head of a WebSocket's handshake. The application's keys are greater."""


class CannotGoOn(Exception):
    """The connection must be cut. The text says why."""


class Stage(Enum):
    """How far the response to the journal's first request has come."""

    NOTHING = "nothing was written"
    INTERIM = "an interim response was written"
    BEGUN = "a part was written"
    SOCKET = "a WebSocket is open"
    ENDS = "all is written, and the connection ends"


@attrs.frozen
class LeftBehind:
    """What an earlier gateway left of one connection."""

    journal_at: int
    """The input position of the journal's first byte."""
    journal: bytes
    base_out: int
    """The output position at which the response to the journal's first request begins."""
    records: Sequence[WriteRecord]
    """The records of the slot, the newest first, with the bytes of a large one."""
    written: int
    """The number of bytes that the kernel has accepted for the client."""
    taken: int
    """The number of the client's bytes that were taken out of the kernel's buffer."""
    notes: Mapping[int, bytes] = attrs.field(factory=dict)


@attrs.frozen
class Continuation:
    """How the connection goes on."""

    stage: Stage
    journal_at: int
    journal: bytes
    """What the application gets as if the client had just sent it."""
    base_out: int
    """The output position at which the response to that begins."""
    untaken: int
    """How many bytes of the journal are still in the kernel's buffer, and are thrown away."""
    rest: bytes
    """What is written before everything else: the unwritten end of the newest record."""
    reached: bytes
    """Where in its logs the handler brought the client with this record."""
    generation: int
    """The number of the newest record."""
    is_websocket: bool = False
    """Whether the journal has frames of a WebSocket, and no requests."""


def go_on(left: LeftBehind) -> Continuation:
    """Decides how the connection goes on. Raises `CannotGoOn`."""
    newest = left.records[0] if left.records else None
    generation = 0 if newest is None else newest.generation
    journal_at, journal, base_out = left.journal_at, left.journal, left.base_out
    end = journal_at + len(journal)
    untaken = end - left.taken
    if newest is None or newest.begin < base_out:
        # A record of the response before this one: that response was complete and sent.
        if left.written != base_out:
            raise CannotGoOn(f"{left.written} bytes were written and the record of them is missing")
        stage, rest, reached = Stage.NOTHING, b"", b""
    else:
        rest = _rest(newest, left.written)
        reached = newest.reached
        if newest.flags & SOCKET:
            return _websocket(left, newest, untaken, rest)
        if newest.flags & CLOSE:
            # The client may have sent more since, which nobody reads.
            return Continuation(Stage.ENDS, end, b"", newest.begin + newest.length, 0, rest, b"", generation)
        if newest.flags & COMPLETE:
            journal, journal_at = journal[newest.next_in - journal_at :], newest.next_in
            stage, base_out, reached = Stage.NOTHING, newest.begin + newest.length, b""
        else:
            stage = Stage.INTERIM if newest.flags & INTERIM else Stage.BEGUN
    _check_taken(left, untaken)
    return Continuation(stage, journal_at, journal, base_out, untaken, rest, reached, generation)


def _websocket(left: LeftBehind, newest: WriteRecord, untaken: int, rest: bytes) -> Continuation:
    if HEAD_KEY not in left.notes:
        raise CannotGoOn("the head of its handshake is missing")
    if newest.flags & CLOSE:
        stage, untaken = Stage.ENDS, 0  # the client may have sent more since, which nobody reads
    else:
        stage = Stage.SOCKET
        _check_taken(left, untaken)
    frames = left.journal[newest.next_in - left.journal_at :]
    return Continuation(
        stage, newest.next_in, frames, newest.begin, untaken, rest, newest.reached, newest.generation, is_websocket=True
    )


def _check_taken(left: LeftBehind, untaken: int) -> None:
    if not 0 <= untaken <= len(left.journal):
        end = left.journal_at + len(left.journal)
        raise CannotGoOn(f"{left.taken} bytes were taken from the client and the journal ends at {end}")


def _rest(record: WriteRecord, written: int) -> bytes:
    if not record.begin <= written <= record.begin + record.length:
        raise CannotGoOn(
            f"{written} bytes were written and the newest record has those from {record.begin} "
            f"to {record.begin + record.length}"
        )
    if written == record.begin + record.length:
        return b""
    if len(record.data) != record.length:
        raise CannotGoOn("the bytes of a large record are missing")
    return record.data[written - record.begin :]
