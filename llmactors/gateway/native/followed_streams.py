"""The streams that one WebSocket follows, as a gateway that takes the WebSocket over needs to know them.

Each stream has a place. What does not change of a stream is noted once, under the key of its place; the record of each
write has the seqs of all places. So a record stays small: 8 bytes for each of at most 64 streams.
"""

from collections.abc import Iterator

import attrs

from llmactors.http.held_websocket import HeldMessage, HeldWebSocket

CALLER_KEY = 1
"""The key of the note that says who the caller is."""
_FIRST_KEY = 2
_SEQ_BYTES = 8
_FREE = bytes(_SEQ_BYTES)
_ASKED_HERE = b"+"
_ATTACHED = b"-"


@attrs.frozen
class FollowedStream:
    """A stream that the WebSocket follows."""

    place: int
    request_id: str
    is_new: bool
    """Whether the WebSocket asked for the request, and did not only attach to its stream."""
    seq: int
    """The seq up to which the client has the stream, when the gateway began to follow it."""


class FollowedStreams:
    """Notes the streams with `held`; where that is None, nothing is noted.

    Each method that says what the next write brings must be called right before that write.
    """

    def __init__(self, held: HeldWebSocket | None) -> None:
        self._held = held
        self._seqs = bytearray(b"" if held is None else held.noted)
        """One more than the seq of each place; 0 for a place that no stream has."""

    def __repr__(self) -> str:
        return f"<FollowedStreams {[each.request_id for each in self.given()]}>"

    def given(self) -> Iterator[FollowedStream]:
        """The streams that the gateway before followed."""
        notes = {} if self._held is None else self._held.notes
        for place in range(len(self._seqs) // _SEQ_BYTES):
            after = self._after(place)
            if after:
                note = notes[_FIRST_KEY + place]
                yield FollowedStream(place, note[1:].decode(), note.startswith(_ASKED_HERE), after - 1)

    def begin(self, request_id: str, seq: int, *, is_new: bool) -> FollowedStream:
        """The next write says that the stream is followed behind `seq`."""
        place = next(number for number in range(len(self._seqs) + 1) if not self._after(number))
        if self._held is not None:
            self._held.keep(_FIRST_KEY + place, (_ASKED_HERE if is_new else _ATTACHED) + request_id.encode())
        stream = FollowedStream(place, request_id, is_new, seq)
        self.reach(stream, seq)
        return stream

    def reach(self, stream: FollowedStream, seq: int) -> None:
        """The next write brings the client to `seq`."""
        self._set(stream.place, (seq + 1).to_bytes(_SEQ_BYTES, "little"))

    def end(self, stream: FollowedStream) -> None:
        """The next write is the last one of the stream."""
        self._set(stream.place, _FREE)

    def reply(self, message: HeldMessage | None) -> None:
        """The next write is the reply to the message."""
        if self._held is not None and message is not None:
            self._held.dealt_with(message)

    def _after(self, place: int) -> int:
        return int.from_bytes(self._seqs[place * _SEQ_BYTES : (place + 1) * _SEQ_BYTES], "little")

    def _set(self, place: int, seq: bytes) -> None:
        if self._held is not None:
            self._seqs[place * _SEQ_BYTES : (place + 1) * _SEQ_BYTES] = seq
            self._held.note(bytes(self._seqs))
