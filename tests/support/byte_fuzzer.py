"""Sends mutated requests, one per connection, and says what a server made of them. Every run follows its seed."""

import contextlib
import random
import socket
from collections import Counter
from collections.abc import Sequence

import attrs

CHUNK = b"POST /v1/generate HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n"
HANDSHAKE = (
    b"GET /v1/ws HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def post(path: bytes, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n%b" % (path, len(body), body)


def frame(opcode: int, data: bytes) -> bytes:
    return bytes([0x80 | opcode, 0x80 | len(data)]) + b"\0\0\0\0" + data


SEEDS: Sequence[bytes] = (
    b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\nGET /v1/tree HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    b"GET /v1/streams/req_x?after=1 HTTP/1.1\r\nhost: 127.0.0.1\r\nlast-event-id: 3\r\n\r\n",
    b"DELETE /v1/streams/req_x HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    b"OPTIONS /v1/generate HTTP/1.1\r\nhost: 127.0.0.1\r\norigin: http://a.example\r\n\r\n",
    post(b"/v1/generate", b'{"prompt": "hi", "max_tokens": 2, "stop": ["x"], "seed": 1}'),
    post(b"/v1/generate", b'{"prompt": "hi", "max_tokens": 2, "stream": true, "temperature": 0.5}'),
    post(b"/v1/chat/completions", b'{"model": "mock", "messages": [{"role": "user", "content": "hi"}], "n": 2}'),
    post(b"/v1/completions", b'{"model": "mock", "prompt": [1, 2, 3], "max_tokens": 2, "stream": true}'),
    post(b"/v1/responses", b'{"model": "mock", "input": [{"role": "user", "content": "hi"}], "metadata": {"a": "b"}}'),
    CHUNK + b'14\r\n{"prompt": "chunks"}\r\n0\r\ntrailer: x\r\n\r\n',
    HANDSHAKE + frame(1, b'{"op": "generate", "prompt": "hi", "max_tokens": 2}') + frame(8, b"\x03\xe8"),
    HANDSHAKE + frame(1, b'{"op": "attach", "id": "req_x", "after": 3}') + frame(9, b"ping"),
)
"""Valid requests of every kind."""
EXPECTED = {501, 503, 504, 505}
"""The statuses of 500 and more of a wrong request: an encoding or a version that is not served, a deadline."""
PIECES: Sequence[bytes] = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"%", b"\xff", b"\xc3\x28", b"{", b"[", b'"', b"\\u0000", b"-1",
    b"99999999999999999999", b"1e999", b"NaN", b"null", b"../", b"chunked", b"content-length: 5\r\n",
    b"expect: 100-continue\r\n", b"upgrade: h2c\r\n", b"\x80\x00", b"\xff\xff\xff\xff", b"HTTP/9.9",
)  # fmt: skip
"""Bytes that mean something to a parser."""


@attrs.define
class FuzzResult:
    """What a server made of the mutated requests."""

    connections: int = 0
    statuses: Counter[int] = attrs.field(factory=Counter)
    """The number of first responses by status; 0 for a connection that ended without a response."""
    server_errors: list[bytes] = attrs.field(factory=list)
    """The requests whose response had a status of 500 or more that is not in `EXPECTED`."""


def mutated(data: bytes, rng: random.Random) -> bytes:
    """`data` with one change, or a few."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        at, length = rng.randrange(len(data) + 1), rng.choice((0, 1, 1, 2, 8, 40))
        piece = rng.choice((b"", rng.choice(PIECES), rng.randbytes(rng.randint(1, 4)), data[at : at + 20] * 2))
        data = data[:at] + piece + data[at + length :]
    return data


def fuzz(port: int, *, connections: int, seed: int, within_s: float = 0.3) -> FuzzResult:
    """Sends `connections` mutated requests to 127.0.0.1. A server may take `within_s` for each response."""
    rng, result = random.Random(seed), FuzzResult()
    for _ in range(connections):
        data = mutated(rng.choice(SEEDS), rng)
        status = _status(port, data, within_s)
        result.connections += 1
        result.statuses[status] += 1
        if status >= 500 and status not in EXPECTED:
            result.server_errors.append(data)
    return result


def _status(port: int, data: bytes, within_s: float) -> int:
    head = b""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(within_s)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        while b"\r\n" not in head and (more := client.recv(4096)):
            head += more
    words = head.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
