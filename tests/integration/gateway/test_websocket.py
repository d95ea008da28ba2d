"""One WebSocket carries many requests, each with the same events as over SSE."""

import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
import trio_websocket

from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.support.oracle import oracle
from tests.support.streams import read_stream

pytestmark = pytest.mark.integration

NothingLeft = Callable[[LocalNode], AbstractAsyncContextManager[None]]


class Client:
    """A WebSocket client that sorts events by stream."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self.socket = socket

    async def say(self, **message: Any) -> None:
        await self.socket.send_message(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        """The next message that is no news of the queue."""
        while True:
            with trio.fail_after(10):
                message: dict[str, Any] = json.loads(await self.socket.get_message())
            if message["event"] != "queued":
                return message

    async def ask(self, **message: Any) -> dict[str, Any]:
        await self.say(**message)
        return await self.hear()

    async def rest_of(self, request_id: str, after: int = 0) -> tuple[str, dict[str, Any]]:
        """Reads a stream to its end; returns its text and its last event. Fails if a seq is not the next one."""
        texts: list[str] = []
        while True:
            event = await self.hear()
            after += 1
            assert (event["id"], event.get("seq")) == (request_id, after)
            if event["event"] != "token":
                return "".join(texts), event
            texts.append(event["text"])


@contextlib.asynccontextmanager
async def connect(
    node: LocalNode, path: str = "/v1/ws", headers: dict[str, str] | None = None
) -> AsyncIterator[Client]:
    extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    url = f"ws://127.0.0.1:{node.port}{path}"
    async with trio_websocket.open_websocket_url(url, extra_headers=extra) as socket:
        yield Client(socket)


async def test_accepted_event_comes_before_tokens_and_echoes_ref() -> None:
    async with local_node() as node, connect(node) as client:
        for ref in ("a ref", 17, {"any": ["json", None]}):
            accepted = await client.ask(op="generate", prompt="hello", max_tokens=5, ref=ref)
            request_id = accepted["id"]
            assert accepted == {"event": "accepted", "id": request_id, "ref": ref}

            text, end = await client.rest_of(request_id)
            assert text == oracle("hello", 5)
            usage = {
                "prompt_tokens": 1,
                "completion_tokens": 5,
                "total_tokens": 6,
                "cached_tokens": 0,
            }
            assert end == {"event": "done", "id": request_id, "seq": 6, "finish_reason": "length", "usage": usage}


async def test_two_requests_on_one_socket_interleave(nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("step_ms=5")) as node, nothing_left(node), connect(node) as client:
        await client.say(op="generate", prompt="one", max_tokens=20, ref=1)
        await client.say(op="generate", prompt="two", max_tokens=20, ref=2)
        ids: dict[int, str] = {}
        texts: dict[str, str] = {}
        order: list[str] = []
        ended = 0
        while ended < 2:
            event = await client.hear()
            match event["event"]:
                case "accepted":
                    ids[event["ref"]] = event["id"]
                case "token":
                    texts[event["id"]] = texts.get(event["id"], "") + event["text"]
                    order.append(event["id"])
                case "done":
                    ended += 1

        assert texts == {ids[1]: oracle("one", 20), ids[2]: oracle("two", 20)}
        switches = sum(first != second for first, second in itertools.pairwise(order))
        assert switches > 5


async def test_attach_continues_where_a_cut_socket_stopped(nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("step_ms=2")) as node, nothing_left(node):
        async with connect(node) as client:
            request_id = (await client.ask(op="generate", prompt="again", max_tokens=30))["id"]
            head = "".join([(await client.hear())["text"] for _ in range(7)])
        async with connect(node) as client:
            accepted = await client.ask(op="attach", id=request_id, after=7, ref="r")
            assert accepted == {"event": "accepted", "id": request_id, "ref": "r"}
            rest, end = await client.rest_of(request_id, 7)

        assert head + rest == oracle("again", 30)
        assert end["event"] == "done"


async def test_attach_continues_a_stream_begun_over_sse() -> None:
    async with local_node() as node, connect(node) as client:
        whole = await read_stream(node.url, {"prompt": "sse", "max_tokens": 4})
        await client.ask(op="attach", id=whole.id)
        assert (await client.rest_of(whole.id))[0] == whole.text


async def test_attach_past_the_end_is_answered_with_ended() -> None:
    async with local_node() as node, connect(node) as client:
        whole = await read_stream(node.url, {"prompt": "sse", "max_tokens": 4})
        assert await client.ask(op="attach", id=whole.id, after=5) == {"event": "ended", "id": whole.id}
        await client.ask(op="attach", id=whole.id, after=4)
        assert (await client.hear())["event"] == "done"


async def test_cancel_ends_the_stream_with_its_reason(nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("step_ms=5")) as node, nothing_left(node), connect(node) as client:
        request_id = (await client.ask(op="generate", prompt="stop", max_tokens=8000))["id"]
        await client.hear()
        await client.say(op="cancel", id=request_id, ref="c")
        events: list[dict[str, Any]] = []
        while len(events) < 2:
            event = await client.hear()
            if event["event"] != "token":
                events.append(event)

        cancelled = {"event": "cancelled", "id": request_id, "cancelled": True, "ref": "c"}
        assert cancelled in events
        assert [event["finish_reason"] for event in events if event["event"] == "done"] == ["cancelled"]
        again = await client.ask(op="cancel", id=request_id)
        assert again == {"event": "cancelled", "id": request_id, "cancelled": False}


async def test_cancel_sent_right_before_closing_is_executed(nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("step_ms=5"), resume_grace_s=600) as node, nothing_left(node):
        for _ in range(10):
            async with connect(node) as client:
                request_id = (await client.ask(op="generate", prompt="stop", max_tokens=8000))["id"]
                await client.say(op="cancel", id=request_id)


MISTAKES: list[tuple[str, str, str]] = [
    ("not json", "INVALID_REQUEST", "the message is not valid JSON"),
    ("", "INVALID_REQUEST", "the message is empty"),
    ("[1]", "INVALID_REQUEST", "must be a JSON object, not a list"),
    ("[" * 50_000, "INVALID_REQUEST", "nested too deeply"),
    ("{}", "INVALID_REQUEST", "`op` must be one of"),
    ('{"op": "generat"}', "INVALID_REQUEST", "`op` must be one of"),
    ('{"op": ["generate"]}', "INVALID_REQUEST", "`op` must be one of"),
    ('{"op": "generate"}', "INVALID_REQUEST", "missing required field `prompt`"),
    ('{"op": "generate", "prompt": ""}', "INVALID_REQUEST", "`prompt`"),
    ('{"op": "generate", "prompt": "p", "id": "mine"}', "INVALID_REQUEST", "unknown field `id`"),
    ('{"op": "generate", "prompt": "p", "model": "gpt"}', "NOT_FOUND", "this node serves: mock"),
    ('{"op": "generate", "prompt": "p", "max_tokens": 100000}', "INVALID_REQUEST", "leaves no room"),
    ('{"op": "attach"}', "INVALID_REQUEST", "missing required field `id`"),
    ('{"op": "attach", "id": "req_nothing"}', "NOT_FOUND", "no such stream"),
    ('{"op": "attach", "id": "x", "after": -1}', "INVALID_REQUEST", "`after`"),
    ('{"op": "attach", "id": "x", "after": 1e999}', "INVALID_REQUEST", "not valid JSON"),
    ('{"op": "attach", "id": "x", "since": 1}', "INVALID_REQUEST", "unknown field `since`"),
    ('{"op": "cancel", "id": "req_nothing"}', "NOT_FOUND", "no such stream"),
    ('{"op": "cancel", "id": 5}', "INVALID_REQUEST", "`id`: Expected `str`"),
]


async def test_invalid_messages_are_answered_and_the_socket_stays(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node), connect(node) as client:
        for raw, code, message in MISTAKES:
            await client.socket.send_message(raw)
            answer = await client.hear()
            assert (answer["event"], answer["error"]["code"]) == ("error", code), raw
            assert message in answer["error"]["message"], raw

        answer = await client.ask(op="generate", prompt="p", max_token=1, ref="mine")
        assert answer["ref"] == "mine"
        await client.socket.send_message(b'{"op": "generate", "prompt": "binary"}')
        assert "text messages" in (await client.hear())["error"]["message"]
        await client.socket.send_message(b"")
        assert "text messages" in (await client.hear())["error"]["message"]

        request_id = (await client.ask(op="generate", prompt="after all", max_tokens=3))["id"]
        assert (await client.rest_of(request_id))[0] == oracle("after all", 3)


async def test_too_many_streams_on_one_socket_are_refused(nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("step_ms=60000"), resume_grace_s=0.1) as node:
        async with connect(node) as client:
            for _ in range(64):
                assert (await client.ask(op="generate", prompt="p"))["event"] == "accepted"
            answer = await client.ask(op="generate", prompt="one more", ref=65)

            assert (answer["error"]["code"], answer["ref"]) == ("OVERLOADED", 65)
            assert answer["error"]["retry_after_ms"] >= 1
            async with connect(node) as other:
                assert (await other.ask(op="generate", prompt="elsewhere"))["event"] == "accepted"
        await wait_until(lambda: "0 queued, 0 running" in repr(node.node.ledger))


async def test_ping_is_answered_with_pong() -> None:
    async with local_node() as node, connect(node) as client:
        with trio.fail_after(5):
            await client.socket.ping(b"are you there")


async def test_handshake_with_the_right_key_has_a_request_id() -> None:
    async with local_node(api_key="s3cret") as node:
        headers = {"authorization": "Bearer s3cret", "x-request-id": "mine"}
        async with connect(node, headers=headers) as client:
            answer = dict(client.socket.handshake_headers)
            assert answer[b"x-request-id"].startswith(b"req_")
            assert answer[b"x-client-request-id"] == b"mine"
            assert (await client.ask(op="generate", prompt="p", max_tokens=1))["event"] == "accepted"


async def test_closed_socket_frees_its_slots_after_their_grace(nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("step_ms=2,slots=3"), resume_grace_s=0.1) as node, nothing_left(node):
        async with connect(node) as client:
            for _ in range(3):
                assert (await client.ask(op="generate", prompt="p", max_tokens=8000))["event"] in {"accepted", "token"}
            await wait_until(lambda: "3 running" in repr(node.node.ledger))
        await wait_until(lambda: "0 running" in repr(node.node.ledger))


async def test_socket_requests_are_timed_from_message_to_last_event() -> None:
    async with local_node(mock_model("step_ms=20")) as node, connect(node) as client:
        request_id = (await client.ask(op="generate", prompt="count", max_tokens=5))["id"]
        assert "llm_gateway_inflight_requests 1.0" in (await node.client.get("/metrics")).text
        await client.rest_of(request_id)
        await client.ask(op="nonsense")

        metrics = (await node.client.get("/metrics")).text
        assert "llm_gateway_inflight_requests 0.0" in metrics
        assert 'llm_gateway_request_count_total{status="200"} 1.0' in metrics
        assert 'llm_gateway_request_count_total{status="400"} 1.0' in metrics
        assert "llm_gateway_tokens_generated_total 5.0" in metrics
        assert 'llmactors_ttft_seconds_count{model="mock"} 1.0' in metrics
        assert 'llmactors_request_seconds_count{model="mock"} 1.0' in metrics
        seconds = next(line for line in metrics.splitlines() if "latency_seconds_sum" in line).split()[1]
        assert float(seconds) >= 0.1
