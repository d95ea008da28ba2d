"""A connection writes whole messages in their order, and nothing after a message that was cut."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from llmactors.http.byte_budget import ByteBudget
from llmactors.http.connection import ConnectionSettings, ServerConnection
from llmactors.http.http1 import Http1
from llmactors.http.protocol_settings import ProtocolSettings
from llmactors.http.throttle import BurstThrottle
from llmactors.testing.node import local_node

pytestmark = pytest.mark.integration


async def no_app(scope: object, receive: object, send: object) -> None:
    """An ASGI application that is never called."""


@attrs.frozen
class Pair:
    """A connection, its socket, and the socket of the client."""

    connection: ServerConnection
    stream: trio.SocketStream
    raw: socket.socket
    peer: trio.socket.SocketType

    async def send(self, data: bytes) -> None:
        await self.connection.write(data)

    async def read(self) -> bytes:
        pieces = []
        with contextlib.suppress(ConnectionResetError):
            while piece := await self.peer.recv(3000):
                pieces.append(piece)
                await trio.lowlevel.checkpoint()
        return b"".join(pieces)


@contextlib.contextmanager
def pair(write_s: float = 20.0) -> Iterator[Pair]:
    """Makes a connected pair whose kernel buffers hold only a few kilobytes."""
    raw, far = socket.socketpair()
    for end in (raw, far):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(raw))
    settings, throttle = ConnectionSettings(write_s=write_s), BurstThrottle(burst=1, per_pass=1)
    protocol = ProtocolSettings(1024, lambda _status, _message: ([], b""), lambda: False, ByteBudget())
    connection = ServerConnection(no_app, protocol, raw, settings, throttle)
    with raw, far:
        yield Pair(connection, stream, raw, trio.socket.from_stdlib_socket(far))


def message(number: int, size: int) -> bytes:
    return struct.pack("!II", number, size) + bytes([number % 251]) * size


def numbers(data: bytes) -> list[int]:
    """The numbers of the messages in `data`. Fails if a message is not whole."""
    found, at = [], 0
    while at < len(data):
        number, size = struct.unpack_from("!II", data, at)
        assert data[at + 8 : at + 8 + size] == bytes([number % 251]) * size
        found.append(number)
        at += 8 + size
    return found


async def test_writers_write_in_the_order_of_their_calls() -> None:
    """A short message that would fit at once does not overtake a long message that waits."""
    with pair() as ends:
        order: list[int] = []
        received = b""

        async def writer(index: int) -> None:
            for turn in range(60):
                number = index * 1000 + turn
                order.append(number)
                await ends.send(message(number, (index * 37 + turn * 1009) % 6000))

        async def reader() -> None:
            nonlocal received
            received = await ends.read()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader)
            async with trio.open_nursery() as writers:
                for index in range(5):
                    writers.start_soon(writer, index)
            ends.raw.shutdown(socket.SHUT_WR)

        assert numbers(received) == order


async def send_until_it_waits(ends: Pair, data: bytes) -> None:
    """Cancels a write that waits for room."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.send, data)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel(reason="the handler ends")


async def test_nothing_is_written_after_half_a_message() -> None:
    with pair() as ends:
        await send_until_it_waits(ends, message(1, 100_000))
        received = await ends.peer.recv(100_000)
        # Now there is room again.
        await ends.send(message(2, 10))
        await ends.stream.aclose()
        received += await ends.read()

        assert message(1, 100_000).startswith(received)


async def test_nothing_is_written_after_a_cancelled_queued_message() -> None:
    """The cancelled message may have been the beginning of the next one."""
    with pair() as ends:
        received = b""

        async def read() -> None:
            nonlocal received
            received = await ends.read()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.send, message(1, 100_000))
            await wait_all_tasks_blocked()
            await send_until_it_waits(ends, message(2, 10))
            nursery.start_soon(read)
            await ends.send(message(3, 10))
            await ends.stream.aclose()

        assert message(1, 100_000).startswith(received)


async def test_write_in_a_cancelled_scope_tears_no_message() -> None:
    with pair() as ends:
        with trio.CancelScope() as scope:
            scope.cancel()
            await ends.send(message(1, 100_000))
        await ends.send(message(2, 10))
        await ends.stream.aclose()

        assert message(1, 100_000).startswith(await ends.read())


class Sending:
    """The part of a protocol machine that a direct write of a chunk needs."""

    may_continue_body = True


async def test_rest_of_a_chunk_is_written_before_the_next_data() -> None:
    """This holds even if the task that should write the rest was cancelled."""
    with pair() as ends:
        ends.connection._protocol = Sending()  # type: ignore[assignment]
        data = bytes(range(256)) * 100
        assert ends.connection.write_chunk_nowait(data) is False
        assert ends.connection.write_chunk_nowait(data) is None
        # Now there is room again.
        received = await ends.peer.recv(100_000)

        async def read() -> None:
            nonlocal received
            received += await ends.read()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await ends.send(b"0\r\n\r\n")
            ends.raw.shutdown(socket.SHUT_WR)
        assert received == b"6400\r\n" + data + b"\r\n0\r\n\r\n"


async def test_chunk_that_fits_is_written_at_once() -> None:
    with pair() as ends:
        ends.connection._protocol = Sending()  # type: ignore[assignment]
        assert ends.connection.write_chunk_nowait(b"token") is True
        assert await ends.peer.recv(100) == b"5\r\ntoken\r\n"
        await ends.connection.write_rest()
        ends.connection._protocol.may_continue_body = False
        assert ends.connection.write_chunk_nowait(b"too late") is None


async def test_write_to_a_stuck_client_ends_after_write_s() -> None:
    with pair(write_s=0.1) as ends, trio.fail_after(20):
        await ends.send(message(1, 100_000))
        await ends.send(message(2, 100_000))


async def test_write_to_a_closed_peer_is_no_error() -> None:
    with pair() as ends:
        ends.peer.close()
        for number in range(5):
            await ends.send(message(number, 100_000))


async def test_closed_connection_writes_to_no_reused_file_descriptor() -> None:
    with pair() as ends:
        number = ends.raw.fileno()
        await ends.stream.aclose()
        assert ends.raw.fileno() == -1
        taken, other = socket.socketpair()
        with taken, other:
            if taken.fileno() != number:  # another thread may have opened a file meanwhile
                taken_again = socket.socket(fileno=taken.detach())
                taken = taken_again
            await ends.send(b"for the old client")
            other.setblocking(False)
            with taken, pytest.raises(BlockingIOError):
                other.recv(100)


async def test_close_ends_a_write_in_progress() -> None:
    with pair() as ends, trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.send, message(1, 100_000))
            nursery.start_soon(ends.send, message(2, 100_000))
            await wait_all_tasks_blocked()
            await ends.stream.aclose()


async def test_fault_in_one_connection_spares_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    create_stream = Http1._begin

    async def faulty(self: Http1, request: Any) -> None:
        if request.target == b"/fault":
            raise RuntimeError("a fault of ours")
        await create_stream(self, request)

    monkeypatch.setattr(Http1, "_begin", faulty)
    async with local_node() as node:
        before = node.incarnations()
        assert (await node.client.get("/livez")).status_code == 200
        async with await trio.open_tcp_stream("127.0.0.1", node.port) as stream:
            await stream.send_all(b"GET /fault HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert await stream.receive_some() == b""
        assert (await node.client.get("/livez")).status_code == 200
        assert node.incarnations() == before
