"""What a WebSocket leaves to a later process, on a connection that the keeper holds.

Each record of a write says, beside the frame itself, up to where the client's frames are dealt with, which pings were
answered, and what the application noted with `reached`. A message is dealt with once its reply is recorded. What is too
long for a record, and changes seldom, is a note at the keeper: the head of the handshake, and what the application
`keep`s, as who the caller is and which streams the WebSocket follows.

A later process serves the handshake again from its note, drops the response that the client has, and reads the frames
of the journal from the first one that is not dealt with. The application finds its notes and what it noted last. A
message that is read twice has the same `origin`, so that what it asks for is done once.
"""

import struct
from collections import deque

import attrs

from llmactors.http.continuation import HEAD_KEY
from llmactors.http.keeper_link import KeeperLink
from llmactors.keeper.protocol import Note

IGNORED = 2**64 - 1
"""Instead of the position of a frame: no frame of the client's is read any more."""
_PONGED = struct.Struct("<Q")


@attrs.frozen
class HeldMessage:
    """A message of the client's, as the application sees it."""

    origin: str
    """The text that `derived_request_id` makes ids of: the place of the message on the connection."""
    is_repeated: bool
    """Whether an earlier process may have handled the message."""
    end: int
    """The input position behind the message."""
    is_begun: bool = False
    """No message is known to have been accepted: a stream that was accepted is followed without its message."""


@attrs.frozen
class LeftWebSocket:
    """An open WebSocket, as the process before left it."""

    head: bytes
    notes: dict[int, bytes]
    frames_at: int
    """The input position of the first frame that is not dealt with."""
    journal_end: int
    """The input position behind everything that the process before may have handled."""
    reached: bytes
    """What the newest record says."""


class HeldWebSocket:
    """What one WebSocket and its application leave to a later process.

    Args:
        origin: What all messages of the connection have in common, and those of no other connection.
        frames_at: The input position of the client's first frame.
        left: What the process before left of this WebSocket; None for a new one.
    """

    def __init__(self, link: KeeperLink, cid: int, origin: str, frames_at: int, left: LeftWebSocket | None) -> None:
        self._link = link
        self._cid = cid
        self._origin = origin
        self.is_resumed = left is not None
        """Whether the client has the response to its handshake from an earlier process."""
        self.notes = {} if left is None else left.notes
        """What the application of the process before kept."""
        self.noted = b"" if left is None else left.reached[_PONGED.size :]
        """What the application noted: where the next write brings the client."""
        self.frames_at = frames_at
        """The input position of the first frame that is not dealt with. Everything before it is."""
        self.is_closing = False
        """Whether the close frame was sent."""
        self.note_bytes = 0
        """The bytes of all notes."""
        self._ponged = 0 if left is None else _PONGED.unpack_from(left.reached)[0]
        """The input position behind the last ping that was answered."""
        self._repeated_to = 0 if left is None else left.journal_end
        self._sizes: dict[int, int] = {}
        self._fed = self._boundary = frames_at
        """The input positions behind the bytes that were parsed, and behind the last frame that ends a message."""
        self._waiting: deque[int] = deque()
        """The input positions behind the messages that are not dealt with."""
        if left is not None:
            self._count(HEAD_KEY, left.head)
            for key, data in left.notes.items():
                self._count(key, data)

    def __repr__(self) -> str:
        return f"<HeldWebSocket at {self.frames_at} of {self._fed}, {len(self._waiting)} waiting>"

    # For the connection.

    @property
    def reached(self) -> bytes:
        """What the record of the next write says."""
        return _PONGED.pack(self._ponged) + self.noted

    def forget(self) -> None:
        """The connection is not protected any more, or is over."""
        self._link.journal_bytes -= self.note_bytes
        self.note_bytes, self._sizes = 0, {}

    # For the stream of frames. Positions of frames are those behind them.

    def feed(self, count: int) -> None:
        """So many bytes of frames are parsed next."""
        self._fed += count

    def message(self, unparsed: int) -> HeldMessage:
        """A message is complete. `unparsed` bytes are behind its last frame."""
        end = self._boundary = self._fed - unparsed
        self._waiting.append(end)
        return HeldMessage(f"{self._origin}:{end}", end <= self._repeated_to, end)

    def control_frame(self, unparsed: int, *, amid_message: bool) -> int:
        """A control frame has come, which needs no message. Returns the position behind it."""
        end = self._fed - unparsed
        if not amid_message:
            self._boundary = end
            if not self._waiting:
                self.frames_at = end
        return end

    def must_answer(self, ping_end: int) -> bool:
        """Whether no process has answered this ping. The next write is the answer."""
        if ping_end <= self._ponged:
            return False
        self._ponged = ping_end
        return True

    def close(self, *, ignores_rest: bool) -> None:
        """The next write is the close frame. With `ignores_rest`, what the client has sent or sends is dropped."""
        self.is_closing = True
        if ignores_rest:
            self.frames_at = IGNORED

    # For the application.

    def keep(self, key: int, data: bytes) -> None:
        """Notes `data` at the keeper, before the next write is recorded. Keys begin at 1."""
        self._count(key, data)
        self._link.send_nowait(Note(self._cid, key, data))

    def keep_head(self, head: bytes) -> None:
        """As `keep`, for the head of the handshake."""
        self.keep(HEAD_KEY, head)

    def note(self, reached: bytes) -> None:
        """Says where the next write, and those behind it, bring the client. No other task may run before that write."""
        self.noted = reached

    def dealt_with(self, message: HeldMessage) -> None:
        """The next write is the reply to the message. Messages are dealt with in the order in which they came."""
        while self._waiting and self._waiting[0] <= message.end:
            self._waiting.popleft()
        if self.frames_at != IGNORED:
            self.frames_at = message.end if self._waiting else self._boundary

    def _count(self, key: int, data: bytes) -> None:
        grown = len(data) - self._sizes.get(key, 0)
        self._sizes[key] = len(data)
        self.note_bytes += grown
        self._link.journal_bytes += grown
