"""The bytes of whole answers as a server sends them, and changes that make an answer wrong in one way."""

from collections.abc import Callable, Sequence

import msgspec

from llmactors.backends.mock.oracle import sequence_hash, token_of

_ENCODE = msgspec.json.encode
Fault = Callable[[list[bytes]], list[bytes]]
"""Takes the events of a right answer, and returns the events of a wrong one."""


def native_events(prompt: str, seed: int, tokens: int, *, request_id: str = "req_1") -> list[bytes]:
    """The SSE events of the mock's answer to a prompt from `POST /v1/generate`; the last event is `done`."""
    base = sequence_hash(prompt, seed)
    events = [
        b"id: %d\nevent: token\ndata: %b\n\n"
        % (seq, _ENCODE({"id": request_id, "seq": seq, "text": token_of(base, seq).text}))
        for seq in range(1, tokens + 1)
    ]
    usage = {"prompt_tokens": 2, "completion_tokens": tokens, "total_tokens": tokens + 2}
    done = {"id": request_id, "seq": tokens + 1, "finish_reason": "length", "usage": usage}
    return [*events, b"id: %d\nevent: done\ndata: %b\n\n" % (tokens + 1, _ENCODE(done))]


def native_error(seq: int, code: str, *, request_id: str = "req_1") -> bytes:
    """The `error` event of a stream that failed."""
    payload = {"id": request_id, "seq": seq, "error": {"code": code, "message": "it broke"}}
    return b"id: %d\nevent: error\ndata: %b\n\n" % (seq, _ENCODE(payload))


def chat_events(prompt: str, seed: int, tokens: int, *, line_end: bytes = b"\n") -> list[bytes]:
    """The chunks of the mock's answer from `POST /v1/chat/completions`: text, reason, usage and `[DONE]`."""
    base = sequence_hash(f"user: {prompt}", seed)
    texts = [token_of(base, seq).text for seq in range(1, tokens + 1)]
    payloads: list[object] = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    payloads.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
    payloads.append({"choices": [], "usage": {"completion_tokens": tokens}})
    end = line_end * 2
    return [b"data: " + _ENCODE(payload) + end for payload in payloads] + [b"data: [DONE]" + end]


def socket_frames(events: Sequence[bytes]) -> list[bytes]:
    """The WebSocket frames of a server for these SSE events, after the frame that accepts the request."""
    payloads = []
    for event in events:
        fields = dict(line.split(b": ", 1) for line in event.strip().split(b"\n"))
        payloads.append(b'{"event":"%b",' % fields[b"event"] + fields[b"data"][1:])
    request_id = msgspec.json.decode(payloads[0])["id"]
    return [frame(_ENCODE({"event": "accepted", "id": request_id})), *map(frame, payloads)]


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """One WebSocket frame of a server, with less than 64 KiB of payload."""
    length = len(payload)
    head = bytes((0x80 | opcode, length)) if length < 126 else bytes((0x80 | opcode, 126)) + length.to_bytes(2, "big")
    return head + payload


def chunked(pieces: Sequence[bytes], *, status: str = "200 OK", kind: str = "text/event-stream") -> bytes:
    """A whole response with a chunked body, each piece in a chunk of its own."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def sized(body: bytes, *, status: str = "200 OK", kind: str = "application/json", headers: str = "") -> bytes:
    """A whole response with a `Content-Length`."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def lose(at: int) -> Fault:
    """Drops one event."""
    return lambda events: events[:at] + events[at + 1 :]


def repeat(at: int) -> Fault:
    """Repeats one event."""
    return lambda events: events[: at + 1] + events[at:]


def swap(at: int) -> Fault:
    """Exchanges one event with the next."""
    return lambda events: [*events[:at], events[at + 1], events[at], *events[at + 2 :]]
