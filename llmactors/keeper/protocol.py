"""The messages between the keeper and a gateway.

Messages go over a pair of sockets (AF_UNIX, SOCK_SEQPACKET): one packet is one message, and file descriptors travel
with the message that names them. `cid` is the id of a connection. A position counts the bytes of one direction of a
connection, from the connection's start.
"""

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
VERSION: Final = 7
"""The version of these messages, and of what gateways leave in the slots. A keeper of one version takes gateways of the
same version alone."""


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
