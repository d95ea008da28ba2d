"""Recordings of HTTP responses, and the reading of them after the run. Pure.

While the clock runs only the head is parsed, which costs a few microseconds per request. The last bytes of a read show
whether a chunked body has ended. This test is wrong for a body in which a line with nothing but `0` and an empty line
come just where a read ends. JSON has no such lines, so the streams of these servers have none. A body with trailers is
never complete here, but none of these servers sends trailers.

After the run `HttpReplay` feeds each read to the parser that all of this package's clients use.
"""

from collections.abc import Iterator

import attrs

from llmactors.http.client_errors import BadResponse, ConnectionCut
from llmactors.http.response import ResponseHead, ResponseParser
from llmactors.http.sse_reader import BadEventStream, SseEvent, SseReader
from llmactors.load.recording import Malformed, Recording

LAST_CHUNK = b"\r\n0\r\n\r\n"
_CHUNKED, _UNTIL_CLOSE = 0, -1


@attrs.define(eq=False)
class HttpRecording(Recording):
    """The recording of one HTTP response."""

    head: ResponseHead | None = None
    """None before the head is complete, and where it is malformed."""
    _total: int | None = None
    """How many bytes the head and the body have together; None before the head is complete."""

    def feed(self, data: bytes, now: float) -> bool:
        held = self.data
        held += data
        self.read_ends.append(len(held))
        self.read_times.append(now)
        total = self._read_head() if self._total is None else self._total
        if total is None:
            return False
        if total == _CHUNKED:
            return held.endswith(LAST_CHUNK)
        return total != _UNTIL_CLOSE and len(held) >= total

    def feed_eof(self) -> bool:
        return self._total == _UNTIL_CLOSE

    def _read_head(self) -> int | None:
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return None
        self._total = _UNTIL_CLOSE
        try:
            head = self.head = ResponseHead.parse(bytes(self.data[:end]), method="POST")
        except BadResponse:
            return self._total  # the replay names the fault
        self.closing = not head.keep_alive
        if head.chunked:
            self._total = _CHUNKED
        elif head.length is not None:
            self._total = end + 4 + head.length
        return self._total


@attrs.define(eq=False)
class HandshakeRecording(HttpRecording):
    """The recording of the response that opens a WebSocket. Frames may follow its head."""

    accept: bytes = b""
    """What `Sec-WebSocket-Accept` must be."""

    @property
    def accepted(self) -> bool:
        """Whether frames may follow."""
        head = self.head
        if head is None or head.status != 101:
            return False
        return head.headers.get("sec-websocket-accept", "") == self.accept.decode()


class HttpReplay:
    """The parsed response of a recording. Raises `Malformed` where the recording holds no complete response."""

    def __init__(self, recording: Recording) -> None:
        parser = ResponseParser("POST")
        self._pieces: list[tuple[bytes, float, int]] = []
        """Pieces of the body: the bytes, their time, and the number of their chunk, or of their read without chunks."""
        data, begin = bytes(recording.data), 0
        try:
            for number, (end, time) in enumerate(zip(recording.read_ends, recording.read_times, strict=True)):
                first = parser.chunks_ended
                pieces = parser.feed(data[begin:end])
                is_chunked = parser.head is not None and parser.head.chunked
                for place, piece in enumerate(pieces, first):
                    self._pieces.append((piece, time, place if is_chunked else number))
                begin = end
            parser.feed_eof()
        except (BadResponse, ConnectionCut) as error:
            raise Malformed("malformed_head" if parser.head is None else "malformed_chunk", str(error)) from None
        assert parser.head is not None  # noqa: S101 - a complete response has a head
        self.head: ResponseHead = parser.head
        if parser.rest and self.head.status != 101:
            raise Malformed("malformed_chunk", f"{parser.rest[:20]!r} behind the end of the response")

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(piece for piece, _, _ in self._pieces)

    def events(self) -> Iterator[tuple[SseEvent, float, int]]:
        """The events of the body: each with the time when its last byte came, and the chunk that this byte was in.

        Where the body has no chunks, the number of the read takes the place of the chunk's. Raises `Malformed`.
        """
        reader = SseReader()
        for piece, time, chunk in self._pieces:
            try:
                events = reader.feed(piece)
            except BadEventStream as error:
                raise Malformed("malformed_event", str(error)) from None
            for event in events:
                yield event, time, chunk
        if reader.in_event:
            raise Malformed("cut_event", f"the body ends inside of an event: {self.body[-80:]!r}")
