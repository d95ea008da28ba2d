"""One request is one trace, also over the death of a worker, and a collector that is away costs no request."""

import json

import pytest
import structlog
import trio
import trio_websocket

from llmactors.testing.node import local_node, mock_model, wait_until
from llmactors.testing.redis_server import RedisServer
from tests.support.otlp_receiver import otlp_receiver
from tests.support.trace_tree import trace_tree
from tests.support.traced_takeover import CALLER_SPAN, PROMPT, TOKENS, TRACE_ID, traced_takeover

pytestmark = pytest.mark.integration


def test_killed_worker_and_its_successor_are_in_one_trace(any_server: RedisServer) -> None:
    with otlp_receiver() as receiver:
        found = traced_takeover(any_server.url, receiver)
    assert found.seqs == [*range(1, TOKENS + 2)]
    tree = trace_tree(found.spans)
    assert sorted(span.name for span in found.spans) == sorted(
        ["text_completion mock", "admission", "queue", "claim", "queue", "claim", "decode"]
    ), tree
    by_name = {name: [span for span in found.spans if span.name == name] for name in ("claim", "queue")}
    [call] = [span for span in found.spans if span.name == "text_completion mock"]
    [decode] = [span for span in found.spans if span.name == "decode"]
    lost, taken = by_name["claim"]
    assert (call.node, call.parent_id, call.kind) == ("gateway", CALLER_SPAN, 2)  # 2: a server's span
    # The killed worker sent the span of its wait, and the other worker told of its claim.
    first, second = (span.node for span in by_name["queue"])
    assert {first, second} == {"worker-1", "worker-2"}
    assert (lost.node, taken.node, decode.node) == (second, second, second)
    assert str(lost.attributes["llmactors.worker"]).startswith(f"{first}/mock")
    assert (lost.attributes["llmactors.ended"], lost.failed, taken.failed) == ("disconnected", True, False)
    assert {span.parent_id for span in (*by_name["claim"], *by_name["queue"])} == {call.span_id}
    [(linked, cause)] = taken.links
    assert (linked, cause["llmactors.cause"]) == (lost.span_id, "disconnected")
    assert lost.attributes["llmactors.epoch"] < taken.attributes["llmactors.epoch"]
    assert taken.attributes["llmactors.tokens.before"] + taken.attributes["llmactors.tokens.made"] == TOKENS
    assert (taken.events, decode.parent_id) == (("first token",), taken.span_id)
    assert not any(PROMPT.encode() in body or b"nothing else" in body for body in receiver.bodies)


async def test_every_kind_of_call_is_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        async with local_node(mock_model(), traces=True) as node:
            chat = {"model": "mock", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
            for path, body in [
                ("/v1/chat/completions", {**chat, "n": 2}),
                ("/v1/completions", {"model": "mock", "prompt": "hi", "max_tokens": 3, "stream": True}),
                ("/v1/messages", chat),
                ("/v1/responses", {"model": "mock", "input": "hi", "max_output_tokens": 3}),
                ("/v1/chat/completions", {**chat, "model": "none"}),
            ]:
                await node.client.post(path, json=body)
            await node.client.get("/v1/models")
            unsampled = {"traceparent": f"00-{TRACE_ID}-{CALLER_SPAN}-00"}
            await node.client.post("/v1/chat/completions", json=chat, headers=unsampled)
            address = node.url.replace("http", "ws", 1) + "/v1/ws"
            async with trio_websocket.open_websocket_url(address) as socket:
                await socket.send_message(json.dumps({"op": "generate", "prompt": "hi", "max_tokens": 3}))
                while json.loads(await socket.get_message())["event"] != "done":
                    pass
    calls = [span for span in receiver.spans if span.kind == 2]
    names = [span.name for span in sorted(calls, key=lambda span: span.begun_ns)]
    refused = "POST /v1/chat/completions"
    assert names == ["chat mock", "text_completion mock", "chat mock", "chat mock", refused, "text_completion mock"]
    claims = [span for span in receiver.spans if span.name == "claim"]
    parents = [claim.parent_id for claim in claims]
    assert sorted(parents.count(call.span_id) for call in calls) == [0, 1, 1, 1, 1, 2]
    statuses = [(span.attributes["http.response.status_code"], span.failed) for span in calls if span.name == refused]
    assert statuses == [(404, False)]
    assert len({span.trace_id for span in calls}) == len(calls)


async def test_lost_collector_costs_one_log_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    with structlog.testing.capture_logs() as lines:
        async with local_node(mock_model(), traces=True) as node:

            async def ask(number: int) -> None:
                body = {"prompt": f"p {number}", "max_tokens": 3}
                answer = await node.client.post("/v1/generate", json=body)
                assert (answer.status_code, answer.json()["usage"]["completion_tokens"]) == (200, 3)

            async with trio.open_nursery() as nursery:
                for number in range(40):
                    nursery.start_soon(ask, number)
            await wait_until(lambda: _told(lines) > 0)
            text = (await node.client.get("/metrics")).text
            assert 'llmactors_trace_spans_total{outcome="exported"} 0.0' in text
    assert _told(lines) == 1


def _told(lines: list[structlog.typing.EventDict]) -> int:
    return sum(line["event"].startswith("traces are lost") for line in lines)
