"""Recordings of WebSocket messages, and as much of the protocol as they need (RFC 6455, section 5). Pure.

A server's frames are never masked. This project's server sends each message in one frame; a fragment is refused.
"""

import attrs

from llmactors.load.recording import Recording

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
FINAL = 0x80


class BadFrame(Exception):
    """The bytes are no frame that this project's server sends."""


@attrs.frozen
class Frame:
    """The place of one frame in the bytes received."""

    opcode: int
    begin: int
    """Where the payload begins."""
    end: int


def frame_at(data: bytes | bytearray, at: int) -> Frame | None:
    """The frame that begins at `at`; None while the frame is incomplete. Raises `BadFrame`."""
    held = len(data) - at
    if held < 2:
        return None
    first, length = data[at], data[at + 1]
    if first & 0x70 or not first & FINAL or length & 0x80 or first & 0xF not in {TEXT, CLOSE, PING, PONG}:
        raise BadFrame(f"first bytes {bytes(data[at : at + 2])!r}")
    begin = at + 2
    if length == 126:
        begin += 2
    elif length == 127:
        begin += 8
    if len(data) < begin:
        return None
    if length >= 126:
        length = int.from_bytes(data[at + 2 : begin], "big")
    end = begin + length
    return Frame(first & 0xF, begin, end) if len(data) >= end else None


def masked_text(payload: bytes, number: int) -> bytes:
    """A text frame from a client. `number` makes the mask; masks protect old proxies, and there is no proxy here."""
    return _masked(TEXT, payload, number)


def masked_pong(payload: bytes, number: int) -> bytes:
    """The frame that answers a ping with its payload."""
    return _masked(PONG, payload, number)


def _masked(opcode: int, payload: bytes, number: int) -> bytes:
    length = len(payload)
    if length < 126:
        head = bytes((FINAL | opcode, 0x80 | length))
    elif length < 1 << 16:
        head = bytes((FINAL | opcode, 0x80 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((FINAL | opcode, 0x80 | 127)) + length.to_bytes(8, "big")
    mask = (number * 0x9E3779B1 & 0xFFFFFFFF).to_bytes(4, "big")
    stretched = (mask * (length // 4 + 1))[:length]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")
    return head + mask + mixed.to_bytes(length, "big")


_ENDS = (b'{"event":"done"', b'{"event":"error"', b'{"event":"ended"')
"""The beginnings of the messages that end an answer, in the JSON of this project's server."""


@attrs.define(eq=False)
class SocketRecording(Recording):
    """The recording of the messages on a WebSocket from one request to the end of its answer."""

    texts: list[Frame] = attrs.field(factory=list)
    pings: list[bytes] = attrs.field(factory=list)
    """The payloads of pings that were not answered yet."""
    _at: int = 0

    def feed(self, data: bytes, now: float) -> bool:
        """As `Recording.feed`. A close frame sets `closing` and completes no answer. Raises `BadFrame`."""
        held = self.data
        held += data
        self.read_ends.append(len(held))
        self.read_times.append(now)
        while (frame := frame_at(held, self._at)) is not None:
            self._at = frame.end
            if frame.opcode == TEXT:
                self.texts.append(frame)
                if held.startswith(_ENDS, frame.begin):
                    return True
            elif frame.opcode == PING:
                self.pings.append(bytes(held[frame.begin : frame.end]))
            elif frame.opcode == CLOSE:
                self.closing = True
                return False
        return False
