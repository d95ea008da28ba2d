"""Real servers of both kinds, and a fake server whose replies the test sets."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import hiredis
import pytest
import trio

from llmactors.redislink.binary import server_binaries
from llmactors.redislink.link import RedisLink
from llmactors.redislink.settings import LinkSettings
from llmactors.testing.redis_server import RedisServer, redis_server

HELLO = b"%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.0\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"

Answer = Callable[[list[bytes]], bytes | None]
"""Returns the bytes of the reply to a command; None closes the connection."""
Running = Callable[[RedisLink], AbstractAsyncContextManager[RedisLink]]
Fake = Callable[[Answer], AbstractAsyncContextManager[int]]


@pytest.fixture(params=sorted(server_binaries()))
def binary(request: pytest.FixtureRequest) -> str:
    return server_binaries()[request.param]


@pytest.fixture
def server(binary: str) -> Iterator[RedisServer]:
    with redis_server(binary, appendfsync="no") as running:
        yield running


@pytest.fixture
def quick() -> LinkSettings:
    """Settings with short times, so that faults are noticed soon."""
    return LinkSettings(connect_s=2.0, command_s=0.5, ping_every_s=0.1, backoff_min_s=0.01, backoff_max_s=0.1)


@asynccontextmanager
async def _running(link: RedisLink) -> AsyncIterator[RedisLink]:
    """A link that is up while the block runs."""
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        yield link
        nursery.cancel_scope.cancel(reason="the test is over")


@pytest.fixture
def running() -> Running:
    return _running


@asynccontextmanager
async def _fake_server(answer: Answer) -> AsyncIterator[int]:
    """A server that speaks RESP. The login is handled here; `answer` gives all other replies. Yields the port."""

    async def serve(stream: trio.SocketStream) -> None:
        reader = hiredis.Reader(notEnoughData=False)
        async with stream:
            try:
                async for data in stream:
                    reader.feed(bytes(data))
                    while command := reader.gets():
                        if (reply := answer(command)) is None:
                            return
                        await stream.send_all(reply)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(functools.partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel(reason="the test is over")


@pytest.fixture
def fake() -> Fake:
    return _fake_server


def _politely(command: list[bytes]) -> bytes:
    """The replies of a healthy server."""
    match command[0].upper():
        case b"HELLO":
            return HELLO
        case b"ROLE":
            return b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
        case b"INFO":
            return b"$11\r\nrun_id:abc\n\r\n"
        case _:
            return b"+OK\r\n"


@pytest.fixture
def politely() -> Answer:
    return _politely
