"""The messages between the keeper and a gateway, and the records that a gateway makes before it writes to a client.

Messages go over a pair of sockets (AF_UNIX, SOCK_SEQPACKET): one packet is one message, and file descriptors travel
with the message that names them. `cid` is the id of a connection. A position counts the bytes of one direction of a
connection, from the connection's start.
"""

import contextlib
import mmap
import struct
from typing import Final, NamedTuple

SOCKET_VARIABLE: Final = "LLMACTORS_KEEPER_FD"
"""The variable of a gateway with the number of its socket to the keeper."""
SLOTS_VARIABLE: Final = "LLMACTORS_KEEPER_SLOTS"
"""The variable of a gateway with the number of the memfd that has the slots of all connections."""
LISTENING_VARIABLE: Final = "LLMACTORS_KEEPER_LISTEN"
"""The variable of a gateway with the number of the listening socket. Only the keeper accepts."""
TOKEN_VARIABLE: Final = "LLMACTORS_KEEPER_TOKEN"  # noqa: S105 - the name of a variable
"""The variable of a gateway with the keeper's random token, in hexadecimal digits."""
VERSION: Final = 6
"""The version of all that this module declares. A keeper of one version takes gateways of the same version alone."""


class BadMessage(ValueError):
    """Bytes that are no message."""


class Given(NamedTuple):
    """To a gateway: a connection, with its socket, which the gateway begins to serve: now, if nothing follows."""

    cid: int
    slot: int
    journal_at: int
    """The input position of the journal's first byte."""
    base_out: int
    """The output position at which the response to the journal's first request begins."""
    taken_over: bool
    """Whether an earlier gateway had the connection."""
    age_ms: int
    """How long ago the journal's first byte came, in milliseconds. Without a journal the age says nothing."""
    more: bool
    """Whether `Large`, `Note` and `Piece` of the connection follow, and then `Begin`."""


class Begin(NamedTuple):
    """To a gateway: all that the keeper holds of the connection was given, and the gateway begins to serve it."""

    cid: int


class Go(NamedTuple):
    """To a gateway: it is the active one now. The connections that it takes over follow, and then `AllGiven`."""


class AllGiven(NamedTuple):
    """To a gateway: the connections of the takeover were given. After crashes they are given in several parts.

    The gateway answers each of these messages with `Active`, and only then gets the next part.
    """


class Warm(NamedTuple):
    """To the keeper: the gateway has done its imports and its checks, and waits for `Go`."""

    version: int = VERSION
    """A keeper starts gateways of newer code. It ends one whose messages or records have another version."""


class Active(NamedTuple):
    """To the keeper: the gateway has handled `AllGiven`, and serves each connection that it has."""


class Beat(NamedTuple):
    """To the keeper: the loop of the gateway, which serves or is warm, runs."""


class StopAccepting(NamedTuple):
    """To the keeper: the gateway drains. The keeper closes the listening socket."""


class Trim(NamedTuple):
    """To the keeper: a response is complete and sent, and the journal of its request is forgotten."""

    cid: int
    next_in: int
    """The input position at which the next request begins."""
    base_out: int
    """The output position at which the next response begins."""


class Large(NamedTuple):
    """In both directions, with a memfd: the bytes of a record that do not fit a slot.

    A gateway sends it before it makes the record. The keeper holds the two newest, and sends both to a successor.
    """

    cid: int
    generation: int


class Unprotected(NamedTuple):
    """To the keeper: the connection's journal is too large and is forgotten. A takeover cuts the connection."""

    cid: int


class Done(NamedTuple):
    """To the keeper: the connection is over. The client sees its end only when the keeper closes its copy too."""

    cid: int


class Piece(NamedTuple):
    """In both directions: bytes of a journal. A gateway sends them before it takes them out of the kernel's buffer."""

    cid: int
    at: int
    """The input position of the first byte. Pieces follow each other without a gap."""
    data: bytes
    """At most `MAX_PIECE_BYTES`."""


class Note(NamedTuple):
    """In both directions: what a gateway wants the next one to know of a connection, in place of what it noted under
    the same key. A gateway sends it before it makes the first record that says so.
    """

    cid: int
    key: int
    data: bytes
    """At most `MAX_PIECE_BYTES`."""


Message = (
    Given
    | Begin
    | Go
    | AllGiven
    | Warm
    | Active
    | Beat
    | StopAccepting
    | Trim
    | Large
    | Unprotected
    | Done
    | Piece
    | Note
)
_FORMS: Final[dict[type[Message], tuple[int, struct.Struct]]] = {
    Given: (ord("C"), struct.Struct("<BQIQQ?Q?")),
    Piece: (ord("J"), struct.Struct("<BQQ")),
    Note: (ord("N"), struct.Struct("<BQQ")),
    Begin: (ord("B"), struct.Struct("<BQ")),
    Go: (ord("G"), struct.Struct("<B")),
    AllGiven: (ord("E"), struct.Struct("<B")),
    Warm: (ord("W"), struct.Struct("<BI")),
    Active: (ord("A"), struct.Struct("<B")),
    Beat: (ord("H"), struct.Struct("<B")),
    StopAccepting: (ord("S"), struct.Struct("<B")),
    Trim: (ord("T"), struct.Struct("<BQQQ")),
    Large: (ord("L"), struct.Struct("<BQQ")),
    Unprotected: (ord("U"), struct.Struct("<BQ")),
    Done: (ord("D"), struct.Struct("<BQ")),
}
_KINDS: Final = {kind: (message, form) for message, (kind, form) in _FORMS.items()}
MAX_MESSAGE_BYTES: Final = 60_000
MAX_PIECE_BYTES: Final = MAX_MESSAGE_BYTES - _FORMS[Piece][1].size


def encode(message: Message) -> bytes:
    """The packet of a message."""
    kind, form = _FORMS[type(message)]
    if isinstance(message, Piece | Note):
        return form.pack(kind, message[0], message[1]) + message.data
    return form.pack(kind, *message)


def decode(packet: bytes) -> Message:
    """The message of a packet. Raises `BadMessage` for bytes that are no message."""
    try:
        message, form = _KINDS[packet[0]]
        if message is Piece or message is Note:
            _, cid, number = form.unpack_from(packet)
            return message(cid, number, packet[form.size :])
        return message(*form.unpack(packet)[1:])
    except (struct.error, LookupError) as error:
        raise BadMessage(f"{packet[:32]!r} is no message") from error


PAGE_BYTES: Final = 4096
HALF_BYTES: Final = 7 * PAGE_BYTES
"""The record with generation n stands in half n % 2 of the connection's slot, at its end."""
JOURNAL_AT: Final = 2 * HALF_BYTES
"""Where the page begins that has the journal of a short request (`short_journal`)."""
SLOT_BYTES: Final = JOURNAL_AT + PAGE_BYTES
"""Memory is taken page by page, at the first use: a slot needs three pages, and more for long writes only."""
_RECORD: Final = struct.Struct("@QQIHHQ")
"""`begin`, `next_in`, `length`, the length of `reached`, `flags` and `generation`, in the order in which they are
stored. In the form of this machine, so that each is stored at once."""
NUMBERS_AT: Final = HALF_BYTES - _RECORD.size
"""Where these numbers stand in a half: at its end, behind the bytes, so that one call stores both in their order."""
_GENERATION: Final = struct.Struct("@Q")
GENERATION_AT: Final = HALF_BYTES - _GENERATION.size
"""Where the generation stands in a half."""
RECORD_BYTES: Final = NUMBERS_AT
"""The most bytes of `reached` and `data` that fit a slot. If both are more, `data` goes into a memfd (`LARGE`)."""
STORES: Final = [struct.Struct(f"@{size + 7 & -8}s{_RECORD.format[1:]}").pack_into for size in range(2048)]
"""What stores a short record at once, by the number of its bytes. These begin at `size + 7 & -8` before the numbers."""

INTERIM: Final = 1
"""The write is an interim response: the response to the same request begins behind it."""
BEGUN: Final = 2
"""The write belongs to a response that goes on behind it."""
COMPLETE: Final = 4
"""With this write the response is whole."""
CLOSE: Final = 8
"""The connection ends behind this write."""
LARGE: Final = 16
"""`data` is in the memfd that the keeper got with `Large`, and not in the slot. Once all of `data` is written, the next
memfd may replace that one; `reached` is needed until the next record is made."""
SOCKET: Final = 32
"""The write belongs to a WebSocket. `next_in` is the input position of the first frame that is not dealt with, and all
records of the WebSocket are of the response to its handshake."""
SEQ: Final = 64
"""Where the log of a stream was followed to, one number, stands in place of `next_in`. It is read as `reached`."""


class WriteRecord(NamedTuple):
    """A write to a client, as the gateway recorded it before the write began."""

    generation: int
    """Counts the records of a connection, from 1."""
    begin: int
    """The output position of the first byte."""
    next_in: int
    """With `COMPLETE`: the input position at which the next request begins. `SOCKET` has a meaning of its own."""
    length: int
    flags: int
    reached: bytes
    """Where in its logs this write brings the client to, in a form that the connection and the handler choose."""
    data: bytes


def store_record(
    slots: mmap.mmap, slot: int, generation: int, begin: int, next_in: int, flags: int, reached: bytes, data: bytes
) -> None:
    """Writes a `WriteRecord`. Its generation comes last, so half a record never counts."""
    at = slot * SLOT_BYTES + generation % 2 * HALF_BYTES + NUMBERS_AT
    body = reached if flags & LARGE else reached + data
    size = len(body)
    start = at - (size + 7 & -8)
    if size < len(STORES):
        STORES[size](slots, start, body, begin, next_in, len(data), len(reached), flags, generation)
    else:
        slots[start : start + size] = body
        _RECORD.pack_into(slots, at, begin, next_in, len(data), len(reached), flags, generation)


def stored_records(slots: mmap.mmap, slot: int) -> list[WriteRecord]:
    """The records of a slot, the newest first. `LARGE` records have no `data`."""
    found = []
    for half in (0, HALF_BYTES):
        at = slot * SLOT_BYTES + half + NUMBERS_AT
        begin, next_in, length, reached_bytes, flags, generation = _RECORD.unpack_from(slots, at)
        if not generation:
            continue
        size = reached_bytes + (0 if flags & LARGE else length)
        start = at - (size + 7 & -8)
        body = slots[start : start + size]
        reached, data = body[:reached_bytes], body[reached_bytes:]
        if flags & SEQ:
            reached, next_in = b"%d" % next_in, 0
        found.append(WriteRecord(generation, begin, next_in, length, flags, reached, data))
    return sorted(found, reverse=True)


def forget_records(slots: mmap.mmap, slot: int) -> None:
    """Removes the records of a slot, and gives back the memory that only long ones needed."""
    for half in (0, HALF_BYTES):
        begin = slot * SLOT_BYTES + half
        slots[begin + GENERATION_AT : begin + HALF_BYTES] = bytes(_GENERATION.size)
        with contextlib.suppress(OSError):  # the pages of some systems are larger
            slots.madvise(mmap.MADV_REMOVE, begin, HALF_BYTES - PAGE_BYTES)
