"""Clients that are slow, silent or suddenly gone cost the node nothing for long."""

import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio

from llmactors.http.sse_reader import SseReader
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.support.oracle import oracle
from tests.support.raw_http import RawExchange, read_to_end
from tests.support.streams import CUTS, StreamRecord, follow, read_stream, read_until

pytestmark = pytest.mark.integration

NothingLeft = Callable[[LocalNode], AbstractAsyncContextManager[None]]

FLOOD_TOKENS = 5000
FLOOD = {"prompt": "flood", "max_tokens": FLOOD_TOKENS, "stream": True}
"""A request for about 500 kB of events, which the mock makes as fast as it can."""


@contextlib.asynccontextmanager
async def tight_node(context: int = 8192, kernel_bytes: int = 8192, **settings: Any) -> AsyncIterator[LocalNode]:
    """A fast node with one slot, whose kernel buffers only a few events for each client."""
    async with local_node(mock_model(f"slots=1,context={context}"), **settings) as node:
        # Connections inherit this size. The default buffers hold megabytes, which take long to fill.
        node.node.listening.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel_bytes)
        yield node


@contextlib.asynccontextmanager
async def deaf_client(node: LocalNode, body: dict[str, Any]) -> AsyncIterator[trio.SocketStream]:
    """Sends a request, and yields the client's stream, which has a tiny receive buffer and which the test may read.

    The client speaks HTTP/1.0, whose answers have no framing.
    """
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    await sock.connect(("127.0.0.1", node.port))
    async with trio.SocketStream(sock) as stream:
        data = json.dumps(body).encode()
        await stream.send_all(b"POST /v1/generate HTTP/1.0\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
        yield stream


def record_of(answer: bytes) -> StreamRecord:
    """The record of the events in an answer, which may be cut."""
    head, _, body = answer.partition(b"\r\n\r\n")
    record = StreamRecord(id=dict(line.split(b": ") for line in head.split(b"\r\n")[1:])[b"x-request-id"].decode())
    for event in SseReader().feed(body):
        record.add(event)
    return record


async def wait_cut(node: LocalNode) -> None:
    """Waits until the node has cut its only client."""
    with trio.fail_after(10):
        while True:
            if "llm_gateway_inflight_requests 0.0" in (await node.client.get("/metrics")).text:
                return
            await trio.sleep(0.02)


def is_running(node: LocalNode) -> bool:
    return "0 running" not in repr(node.node.ledger)


async def test_client_that_never_reads_loses_its_slot(nothing_left: NothingLeft) -> None:
    async with tight_node() as node, nothing_left(node), deaf_client(node, FLOOD):
        await wait_until(lambda: is_running(node))
        # The node has one slot, so an answer shows that the slot is free again.
        response = await node.client.post("/v1/generate", json={"prompt": "next", "max_tokens": 5})
        assert response.json()["text"] == oracle("next", 5)


async def test_client_that_accepts_no_bytes_is_cut_after_write_s(nothing_left: NothingLeft) -> None:
    body = {**FLOOD, "max_tokens": 100_000}
    async with (
        tight_node(context=200_000, write_s=0.3, resume_grace_s=0.1) as node,
        nothing_left(node),
        deaf_client(node, body) as stream,
    ):
        await wait_until(lambda: is_running(node))
        await wait_until(lambda: not is_running(node))
        with pytest.raises(trio.BrokenResourceError):
            await read_to_end(stream)


async def test_cut_client_returns_for_the_rest() -> None:
    async with tight_node(write_s=0.3) as node:
        async with deaf_client(node, FLOOD) as stream:
            received = b""
            while received.count(b"\n\n") < 5:
                received += await stream.receive_some(500)
            record = record_of(received)
            await wait_cut(node)
            with pytest.raises(trio.BrokenResourceError):
                await read_to_end(stream)

        await read_stream(node.url, {}, record)
        assert record.text == oracle("flood", FLOOD_TOKENS)


@pytest.mark.parametrize("stream", [True, False])
async def test_client_that_never_reads_does_not_delay_shutdown(stream: bool) -> None:
    async with tight_node(drain_s=0.3) as node, deaf_client(node, {**FLOOD, "stream": stream}):
        await wait_until(lambda: is_running(node))
        begun = trio.current_time()
        await node.node.shut_down()

        assert trio.current_time() - begun < 3


async def test_streams_cut_between_writes_have_only_right_bytes() -> None:
    """At the end of a drain each client has read a prefix of whole events, and perhaps an error event."""
    records = [StreamRecord() for _ in range(12)]

    async def read_slowly(number: int) -> None:
        body = {"prompt": f"slow {number}", "max_tokens": 8000}
        with contextlib.suppress(*CUTS):
            async with contextlib.aclosing(follow(node.url, body, records[number])) as events:
                async for _ in events:
                    await trio.sleep(number * 0.0002)

    async with local_node(mock_model("step_ms=1"), drain_s=0.4) as node:
        node.node.listening.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        async with trio.open_nursery() as nursery:
            for number in range(len(records)):
                nursery.start_soon(read_slowly, number)
            await wait_until(lambda: all(record.last_seq for record in records))
            await node.node.shut_down()

    for number, record in enumerate(records):
        assert oracle(f"slow {number}", 8000).startswith(record.text)
        assert record.end_event in {"", "error"}
    assert any(record.end_event for record in records)


async def test_client_that_reads_byte_by_byte_gets_the_right_bytes(nothing_left: NothingLeft) -> None:
    async with tight_node() as node, nothing_left(node):
        received = bytearray()
        async with deaf_client(node, {"prompt": "bytes", "max_tokens": 150, "stream": True}) as stream:
            while byte := await stream.receive_some(1):
                received += byte
        record = record_of(bytes(received))

        assert (record.text, record.end_event) == (oracle("bytes", 150), "done")


async def test_client_that_reads_slowly_but_steadily_is_not_cut(nothing_left: NothingLeft) -> None:
    """A socket with a full buffer stays unwritable for several times `write_s`, although the client reads steadily."""
    async with tight_node(kernel_bytes=200_000, write_s=0.25) as node, nothing_left(node):
        received = bytearray()
        async with deaf_client(node, {**FLOOD, "max_tokens": 350}) as stream:
            while piece := await stream.receive_some(2000):
                received += piece
                await trio.sleep(0.08)
        record = record_of(bytes(received))

        assert (record.text, record.end_event) == (oracle("flood", 350), "done")


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("stream", [True, False])
async def test_disconnect_during_an_answer_leaves_nothing(how: str, stream: bool, nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("step_ms=2"), resume_grace_s=0.1) as node, nothing_left(node):
        for _ in range(10):
            body = {"prompt": "bye", "max_tokens": 8000, "stream": stream}
            exchange = await RawExchange.open(node.url, "POST", "/v1/generate", body=body, read_head=stream)
            if stream:
                await exchange.read()
            else:
                await wait_until(lambda: is_running(node))
            if how == "reset":
                exchange.reset()
            else:
                await exchange.stream.aclose()


async def test_disconnect_during_a_body_leaves_nothing(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        for sent in (0, 1, 1000, 500_000):
            async with await trio.open_tcp_stream("127.0.0.1", node.port) as stream:
                await stream.send_all(
                    b"POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 900000\r\n\r\n"
                )
                await stream.send_all(b"x" * sent)
        assert "0 running" in repr(node.node.ledger)


@pytest.mark.parametrize("stream", [True, False])
async def test_disconnect_of_a_queued_request_leaves_nothing(stream: bool, nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("step_ms=5,slots=1"), resume_grace_s=0.1) as node, nothing_left(node):
        first = await read_until(node.url, {"prompt": "the slot", "max_tokens": 8000}, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_stream, node.url, {}, first)
            body = {"prompt": "queued", "max_tokens": 8000, "stream": stream}
            async with await RawExchange.open(node.url, "POST", "/v1/generate", body=body, read_head=False):
                await wait_until(lambda: "1 queued" in repr(node.node.ledger))
            await wait_until(lambda: "0 queued" in repr(node.node.ledger))
            assert is_running(node)
            await node.client.delete(f"/v1/streams/{first.id}")


async def test_silent_connections_do_not_delay_requests(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node), contextlib.AsyncExitStack() as stack:
        for _ in range(500):
            await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", node.port))
        response = await node.client.post("/v1/generate", json={"prompt": "among them", "max_tokens": 3})
        assert response.json()["text"] == oracle("among them", 3)


async def test_connection_churn_leaves_nothing(nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("step_ms=1"), resume_grace_s=0.1) as node, nothing_left(node):

        async def churn(number: int) -> None:
            for turn in range(15):
                body = {"prompt": f"{number} {turn}", "max_tokens": 30}
                if turn % 3:
                    await read_until(node.url, body, turn)
                else:
                    record = await read_stream(node.url, body)
                    assert record.text == oracle(f"{number} {turn}", 30)

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(churn, number)


async def test_stream_cut_at_any_byte_continues() -> None:
    async with local_node(mock_model("step_ms=1")) as node:
        record = StreamRecord()
        body = {"prompt": "in pieces", "max_tokens": 40}
        while record.end is None:
            async with contextlib.aclosing(follow(node.url, body, record)) as events:
                async for _ in events:
                    if record.last_seq % 7 == 0:
                        break

        assert record.text == oracle("in pieces", 40)
