"""WebSockets on the wire: refused handshakes, broken frames, and clients that do not read."""

import contextlib
import itertools
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.support.raw_http import read_to_end

pytestmark = pytest.mark.integration

NothingLeft = Callable[[LocalNode], AbstractAsyncContextManager[None]]

HANDSHAKE = (
    b"GET /v1/ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
)


class Frames:
    """A WebSocket client that sends and reads single frames, and reads only on demand."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.machine = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []

    async def send(self, *events: Event) -> None:
        await self.stream.send_all(b"".join(self.machine.send(event) for event in events))

    async def say(self, **message: Any) -> None:
        await self.send(TextMessage(data=json.dumps(message)))

    async def next(self) -> Event | None:
        """Waits for the next event that is no ping; None at the end of the connection."""
        with trio.fail_after(10):
            while True:
                while self._events:
                    event = self._events.pop(0)
                    if not isinstance(event, Ping):
                        return event
                data = await self.stream.receive_some()
                if not data:
                    return None
                self.machine.receive_data(data)
                self._events = list(self.machine.events())

    async def hear(self) -> Any:
        """Waits for the next message, and parses its JSON."""
        text = ""
        while True:
            event = await self.next()
            assert isinstance(event, TextMessage), event
            text += event.data
            if event.message_finished:
                return json.loads(text)

    async def handshake(self, path: str = "/v1/ws", headers: dict[str, str] | None = None) -> Event | None:
        extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        await self.send(Request(host="localhost", target=path, extra_headers=extra, extensions=[PerMessageDeflate()]))
        return await self.next()

    async def rejection(self) -> Any:
        """Reads the body of a refused handshake."""
        body = b""
        while True:
            event = await self.next()
            assert isinstance(event, RejectData)
            body += event.data
            if event.body_finished:
                return json.loads(body)


@contextlib.asynccontextmanager
async def frames(node: LocalNode, *, small: bool = False) -> AsyncIterator[Frames]:
    sock = trio.socket.socket()
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    await sock.connect(("127.0.0.1", node.port))
    async with trio.SocketStream(sock) as stream:
        yield Frames(stream)


@contextlib.asynccontextmanager
async def tight_node(**settings: Any) -> AsyncIterator[LocalNode]:
    """A node whose kernel buffers only a few events for each client."""
    async with local_node(**settings) as node:
        node.node.listening.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        yield node


async def test_wrong_key_is_refused_during_the_handshake(nothing_left: NothingLeft) -> None:
    async with local_node(api_key="s3cret") as node:
        node.client.headers["x-api-key"] = "s3cret"
        async with nothing_left(node):
            wrong: list[dict[str, str]] = [{}, {"x-api-key": "wrong"}, {"authorization": "Bearer wrong"}]
            for headers, path in itertools.product(wrong, ["/v1/ws", "/v1/nothing", "/v1/generate"]):
                async with frames(node) as client:
                    rejected = await client.handshake(path, headers)
                    assert isinstance(rejected, RejectConnection)
                    assert (rejected.status_code, dict(rejected.headers)[b"www-authenticate"]) == (401, b"Bearer")
                    error = (await client.rejection())["error"]
                    assert error["code"] == "UNAUTHENTICATED"
                    assert dict(rejected.headers)[b"x-request-id"].decode() == error["request_id"]
                    assert await client.stream.receive_some() == b""


async def test_socket_on_another_route_is_404() -> None:
    async with local_node() as node, frames(node) as client:
        rejected = await client.handshake("/v1/other")
        assert isinstance(rejected, RejectConnection)
        assert rejected.status_code == 404
        assert (await client.rejection())["error"]["code"] == "NOT_FOUND"


BROKEN = {
    "no key": HANDSHAKE.replace(b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""),
    "old version": HANDSHAKE.replace(b"version: 13", b"version: 8"),
    "no version": HANDSHAKE.replace(b"sec-websocket-version: 13\r\n", b""),
    "HTTP/1.0": HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0"),
}


async def test_broken_handshake_gets_json_400_and_close(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        for name, head in BROKEN.items():
            async with frames(node) as client:
                await client.stream.send_all(head + b"\r\n")
                answer = await read_to_end(client.stream)

            assert answer.startswith(b"HTTP/1.1 400 "), name
            error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
            assert error["code"] == "INVALID_REQUEST", name
            assert "WebSocket handshake" in error["message"]


async def test_frames_before_the_handshake_answer_are_refused(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node), frames(node) as client:
        await client.stream.send_all(HANDSHAKE + b"\r\n" + b"\x81\x82\x00\x00\x00\x00{}")
        answer = await read_to_end(client.stream)
        assert answer.startswith(b"HTTP/1.1 400 ")


async def test_handshake_offers_no_compression() -> None:
    async with local_node() as node, frames(node) as client:
        accepted = await client.handshake()
        assert isinstance(accepted, AcceptConnection)
        assert accepted.extensions == []


@pytest.mark.parametrize("kind", [TextMessage, BytesMessage])
async def test_oversize_message_closes_with_1009(
    kind: type[TextMessage | BytesMessage], nothing_left: NothingLeft
) -> None:
    async with local_node(max_body_bytes=10_000) as node, nothing_left(node), frames(node) as client:
        await client.handshake()
        piece: Any = "x" * 10_000 if kind is TextMessage else b"x" * 10_000
        # The client never ends the message, and reads nothing before everything is sent.
        for _ in range(50):
            await client.send(kind(data=piece, message_finished=False))
        closed = await client.next()

        assert isinstance(closed, CloseConnection)
        assert closed.code == 1009


async def test_message_of_the_maximum_size_is_read() -> None:
    async with local_node(max_body_bytes=10_000) as node, frames(node) as client:
        await client.handshake()
        message = json.dumps({"op": "nothing"}).ljust(10_000)
        for start in range(0, 10_000, 1000):
            await client.send(TextMessage(data=message[start : start + 1000], message_finished=start == 9000))
        assert "`op`" in (await client.hear())["error"]["message"]


FRAMES = {
    "not masked": (b"\x81\x02{}", 1002),
    "reserved opcode": (b"\x83\x80\x00\x00\x00\x00", 1002),
    "compressed without having agreed": (b"\xc1\x80\x00\x00\x00\x00", 1002),
    "invalid UTF-8": (b"\x81\x82\x00\x00\x00\x00\xff\xfe", 1007),
    "a huge length": (b"\x81\xff" + b"\xff" * 8 + b"\x00" * 4, 1002),
}


async def test_broken_frame_closes_with_its_code(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        for name, (data, code) in FRAMES.items():
            async with frames(node) as client:
                await client.handshake()
                await client.stream.send_all(data)
                closed = await client.next()

                assert isinstance(closed, CloseConnection), name
                assert closed.code == code, name
                assert await client.next() is None


async def test_close_is_answered_and_ends_the_connection(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node), frames(node) as client:
        await client.handshake()
        await client.send(CloseConnection(code=1000))
        closed = await client.next()

        assert isinstance(closed, CloseConnection)
        assert closed.code == 1000
        assert await client.next() is None


async def test_ping_is_answered_with_its_payload() -> None:
    async with local_node() as node, frames(node) as client:
        await client.handshake()
        await client.send(Ping(payload=b"are you there"))
        pong = await client.next()
        assert isinstance(pong, Pong)
        assert pong.payload == b"are you there"


async def test_node_pings_an_idle_socket() -> None:
    async with local_node() as node, frames(node) as client:
        await client.stream.send_all(HANDSHAKE + b"\r\n")
        data = b""
        with trio.fail_after(5):
            while b"\x89\x00" not in data:
                data += await client.stream.receive_some()


async def flood_with_requests(client: Frames) -> None:
    message = client.machine.send(TextMessage(data=json.dumps({"op": "attach", "id": "x" * 500})))
    with contextlib.suppress(trio.BrokenResourceError):
        while True:
            await client.stream.send_all(message * 100)


async def flood_with_pings(client: Frames) -> None:
    message = client.machine.send(Ping(payload=b"x" * 120))
    with contextlib.suppress(trio.BrokenResourceError):
        while True:
            await client.stream.send_all(message * 100)


async def flood_with_streams(client: Frames) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        for number in range(20):
            await client.say(op="generate", prompt=f"flood {number}", max_tokens=8000)
        while True:
            await client.say(op="cancel", id="nothing")


@pytest.mark.parametrize("flood", [flood_with_requests, flood_with_pings, flood_with_streams])
async def test_client_that_writes_and_never_reads_is_cut(flood: Any, nothing_left: NothingLeft) -> None:
    """The messages fill every queue on the way in, and the answers fill every queue on the way out."""
    async with (
        tight_node(write_s=0.3, resume_grace_s=0.1) as node,
        nothing_left(node),
        frames(node, small=True) as client,
    ):
        await client.handshake()
        with trio.fail_after(10):
            await flood(client)


async def test_client_that_never_reads_does_not_delay_shutdown() -> None:
    async with tight_node(drain_s=0.3) as node, frames(node, small=True) as client:
        await client.handshake()
        for number in range(5):
            await client.say(op="generate", prompt=f"flood {number}", max_tokens=8000)
        await wait_until(lambda: "0 queued, 0 running" not in repr(node.node.ledger))
        begun = trio.current_time()
        await node.node.shut_down()

        assert trio.current_time() - begun < 3


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_vanished_client_frees_its_slots(how: str, nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("step_ms=2"), resume_grace_s=0.1) as node, nothing_left(node):
        for _ in range(10):
            async with frames(node) as client:
                await client.handshake()
                for number in range(3):
                    await client.say(op="generate", prompt=f"p {number}", max_tokens=8000)
                await client.hear()
                if how == "reset":
                    client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
