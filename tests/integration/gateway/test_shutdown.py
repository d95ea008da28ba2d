"""A node process that is told to end finishes open requests, and cuts those that take too long with an error event."""

import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
import trio_websocket

from llmactors.testing.node import NodeProcess
from tests.support.oracle import oracle
from tests.support.raw_http import RawExchange
from tests.support.streams import CUTS, StreamRecord, follow, read_stream

pytestmark = pytest.mark.integration

LONG = {"prompt": "long", "max_tokens": 8000}
"""A number of tokens that takes much longer than any drain."""
SHORT = {"prompt": "short", "max_tokens": 60}


@contextlib.asynccontextmanager
async def process(*arguments: str, drain_s: float) -> AsyncIterator[NodeProcess]:
    """A ready node process for one test."""
    command = ("--model", "mock:step_ms=10", "--bind", "127.0.0.1:0", "--drain-s", str(drain_s), *arguments)
    with NodeProcess(*command, environ={"LLMACTORS_LOG_FORMAT": "json"}) as node:
        await trio.to_thread.run_sync(node.wait_ready)
        yield node


async def wait_exit(node: NodeProcess, within_s: float) -> int:
    with trio.fail_after(within_s):
        while (code := node.process.poll()) is None:  # noqa: ASYNC110 - a process has no event
            await trio.sleep(0.01)
    return code


@contextlib.asynccontextmanager
async def websocket(node: NodeProcess) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    async with trio_websocket.open_websocket_url(node.url.replace("http", "ws") + "/v1/ws") as socket:
        yield socket
        await socket._stream.aclose()  # trio_websocket does not close the stream if the server closes first


async def hear_all(socket: trio_websocket.WebSocketConnection) -> list[dict[str, Any]]:
    """The events until the node closes the socket, without news of the queue."""
    events: list[dict[str, Any]] = []
    with contextlib.suppress(trio_websocket.ConnectionClosed):
        while True:
            events.append(json.loads(await socket.get_message()))
    return [event for event in events if event["event"] != "queued"]


async def wait_refused(node: NodeProcess) -> None:
    """Waits until the node no longer listens."""
    port = httpx.URL(node.url).port or 0
    with trio.fail_after(5):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                return
            await stream.aclose()
            await trio.sleep(0.01)


async def wait_inflight(node: NodeProcess, count: int) -> None:
    async with httpx.AsyncClient(base_url=node.url) as client:
        while True:
            if f"llm_gateway_inflight_requests {count}.0" in (await client.get("/metrics")).text:
                return
            await trio.sleep(0.01)


async def read_to_end(events: AsyncIterator[object]) -> None:
    async for _ in events:
        pass


class Clients:
    """Clients of each kind in the middle of the same request."""

    def __init__(self, node: NodeProcess, body: dict[str, Any]) -> None:
        self.record = StreamRecord()
        self._node = node
        self._body = body

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[None]:
        self._events = follow(self._node.url, self._body, self.record)
        url = self._node.url
        async with (
            contextlib.aclosing(self._events),
            await RawExchange.open(url, "POST", "/v1/generate", body=self._body, read_head=False) as self.waiter,
            websocket(self._node) as self.socket,
        ):
            await self.socket.send_message(json.dumps({"op": "generate", **self._body}))
            self.socket_id = json.loads(await self.socket.get_message())["id"]
            await anext(self._events)
            await wait_inflight(self._node, 3)
            yield

    async def read_to_end(self) -> None:
        await read_to_end(self._events)


async def test_drain_finishes_open_streams_and_refuses_new_ones() -> None:
    async with process(drain_s=10) as node:
        clients = Clients(node, SHORT)
        async with clients.connect():
            node.process.send_signal(signal.SIGTERM)
            await wait_refused(node)
            await clients.read_to_end()
            await clients.waiter.read_head()
            answer = await clients.waiter.read_json()
            events = await hear_all(clients.socket)

        assert (clients.record.text, clients.record.end_event) == (oracle("short", 60), "done")
        assert (clients.waiter.status, clients.waiter.headers["connection"]) == (200, "close")
        assert answer["text"] == oracle("short", 60)
        assert "".join(event.get("text", "") for event in events) == oracle("short", 60)
        assert events[-1]["event"] == "done"
        assert clients.socket.closed is not None
        assert clients.socket.closed.code == 1001
        assert await wait_exit(node, 3) == 0


async def test_stream_longer_than_the_drain_gets_an_error_event() -> None:
    async with process(drain_s=0.5) as node:
        clients = Clients(node, LONG)
        async with clients.connect():
            begun = time.monotonic()
            node.process.send_signal(signal.SIGTERM)
            await wait_refused(node)
            await clients.socket.send_message(json.dumps({"op": "generate", "prompt": "too late", "ref": "late"}))
            await clients.read_to_end()
            await clients.waiter.read_head()
            answer = await clients.waiter.read_json()
            late, cut = [event for event in await hear_all(clients.socket) if event["event"] != "token"]

        end = clients.record.end
        assert end is not None
        assert (clients.record.end_event, end["error"]["code"]) == ("error", "UNAVAILABLE")
        assert "seq" not in end
        assert clients.record.text == oracle("long", len(clients.record.texts))
        assert (clients.waiter.status, answer["error"]["code"]) == (503, "UNAVAILABLE")
        assert int(clients.waiter.headers["retry-after"]) >= 1
        assert (late["event"], late["ref"], late["error"]["code"]) == ("error", "late", "UNAVAILABLE")
        assert (cut["event"], cut["id"], cut["error"]["code"]) == ("error", clients.socket_id, "UNAVAILABLE")
        assert clients.socket.closed is not None
        assert clients.socket.closed.code == 1001
        assert await wait_exit(node, 3) == 0
        assert 0.5 <= time.monotonic() - begun < 4


async def test_second_signal_ends_the_node_at_once() -> None:
    async with process(drain_s=30) as node, contextlib.aclosing(follow(node.url, LONG, StreamRecord())) as events:
        await anext(events)
        node.process.send_signal(signal.SIGTERM)
        await wait_refused(node)
        begun = time.monotonic()
        node.process.send_signal(signal.SIGINT)

        assert await wait_exit(node, 5) == 128 + signal.SIGINT
        assert time.monotonic() - begun < 2
        with pytest.raises(CUTS):
            await read_to_end(events)


async def test_idle_connections_do_not_delay_shutdown() -> None:
    async with process(drain_s=30) as node, contextlib.AsyncExitStack() as stack:
        # Connections stay open after a JSON answer, after a stream, and after a route for operators.
        requests: list[tuple[str, str, Any]] = [
            ("GET", "/livez", None),
            ("POST", "/v1/generate", {"prompt": "p", "max_tokens": 2}),
        ]
        for method, path, body in [
            *requests,
            *[("POST", "/v1/generate", {"prompt": "p", "max_tokens": 2, "stream": True})] * 5,
        ]:
            exchange = await stack.enter_async_context(await RawExchange.open(node.url, method, path, body=body))
            await exchange.read_all()
        port = httpx.URL(node.url).port or 0
        silent = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
        half = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
        await half.send_all(b"POST /v1/generate HTTP/1.1\r\n")
        socket = await stack.enter_async_context(websocket(node))
        await socket.ping()
        begun = time.monotonic()
        node.process.send_signal(signal.SIGTERM)

        assert await wait_exit(node, 10) == 0
        assert time.monotonic() - begun < 5
        assert await silent.receive_some() == b""
        assert await hear_all(socket) == []


async def test_logs_hold_no_prompt_and_no_traceback() -> None:
    async with process("--access-log", "--log-level", "debug", drain_s=5) as node:
        secret = "a-secret-nobody-may-read"
        async with httpx.AsyncClient(base_url=node.url) as client:
            await client.post("/v1/generate", json={"prompt": secret, "max_tokens": 2, "stop": [secret]})
            await client.post("/v1/generate", json={"prompt": secret, "unknown": secret})
            await client.post("/v1/generate", content=secret)
            await client.get("/v1/tree")
        await read_stream(node.url, {"prompt": secret, "max_tokens": 2})
        async with websocket(node) as socket:
            await socket.send_message(json.dumps({"op": "generate", "prompt": secret, "max_tokens": 2}))
            await socket.get_message()
            await socket.send_message(secret)
            await socket.get_message()
            await socket.aclose()
        node.process.send_signal(signal.SIGTERM)
        assert await wait_exit(node, 5) == 0

        logs = node.errors()
        assert '"event":"request"' in logs.replace('": "', '":"')
        assert secret not in logs
        assert node.tracebacks() == []
