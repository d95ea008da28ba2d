"""Clients that send nonsense, or half of a message and then nothing."""

import contextlib
from urllib.parse import urlsplit

import trio

from bench.soak.asking import Asker
from tests.support.byte_fuzzer import HANDSHAKE, fuzz

FLOOD_CONNECTIONS = 40
_HALVES = (
    b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nx-half: ",
    b'POST /v1/generate HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5000\r\n\r\n{"prompt": "half',
    b"POST /v1/generate HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\nff\r\n{",
    HANDSHAKE + bytes([0x01, 0x84]) + b"\0\0\0\0" + b'{"op',  # the first fragment of a text message
    HANDSHAKE + bytes([0x81, 0xFE, 0x10, 0x00]) + b"\0\0\0\0" + b'{"op": "gen',  # a part of a frame of 4096 bytes
)
_LONG = b'{"prompt":[' + b"[]," * 300_000 + b"[]]}"
_LONG_BODY = b"POST /v1/generate HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n%b" % (len(_LONG), _LONG)


def _port(asker: Asker) -> int:
    return urlsplit(asker.url()).port or 0


async def flood(asker: Asker) -> None:
    """Mutated requests, one per connection, from a thread."""
    port, seed = _port(asker), asker.rng.getrandbits(32)
    with contextlib.suppress(OSError):
        found = await trio.to_thread.run_sync(lambda: fuzz(port, connections=FLOOD_CONNECTIONS, seed=seed))
        asker.tally.nonsense += found.statuses
        for data in found.server_errors:
            asker.tally.refuse(f"nonsense {data[:200]!r}", 500, "")


async def halves(asker: Asker) -> None:
    """Unfinished messages, one on each of a few connections, which are then left."""
    async with trio.open_nursery() as nursery:
        for data in (*_HALVES, _LONG_BODY):
            nursery.start_soon(_leave_half, _port(asker), data, asker.rng.uniform(0.5, 5.0))


async def _leave_half(port: int, data: bytes, wait_s: float) -> None:
    with contextlib.suppress(OSError, trio.BrokenResourceError), trio.move_on_after(30):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            with trio.move_on_after(wait_s):
                await stream.send_all(data)
                while await stream.receive_some():
                    pass
