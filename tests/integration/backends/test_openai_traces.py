"""Requests to upstreams carry W3C's `traceparent`: each try has a span of its own below the worker's claim."""

import random
import re
from collections.abc import Sequence

import pytest

from llmactors.backends.build import ServedModel
from llmactors.backends.openai import OpenAIBackend, OpenAISettings
from llmactors.testing.node import local_node
from tests.integration.backends.test_openai_embeddings import numbers
from tests.support.faulty_upstream import Hit, good, upstream
from tests.support.otlp_receiver import ReceivedSpan, otlp_receiver

pytestmark = pytest.mark.integration

TRACE_ID, CALLER_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CHAT = {"model": "gpt", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


def remote(text: str) -> ServedModel:
    settings = OpenAISettings.parse(text, name="mock")
    return ServedModel("gpt", lambda: OpenAIBackend(settings, rng=random.Random(1)))


def caller(*, sampled: bool = True) -> dict[str, str]:
    return {"traceparent": f"00-{TRACE_ID}-{CALLER_SPAN}-0{int(sampled)}", "tracestate": "vendor=1"}


def told(hits: Sequence[Hit]) -> list[str]:
    """The ids of the spans that the requests name. Each has the caller's trace, and is sampled."""
    found = [re.fullmatch(rf"00-{TRACE_ID}-([0-9a-f]{{16}})-01", hit.headers["traceparent"]) for hit in hits]
    assert all(hit.headers["tracestate"] == "vendor=1" for hit in hits)
    return [each[1] for each in found if each]


def posts(spans: Sequence[ReceivedSpan]) -> list[ReceivedSpan]:
    return sorted((span for span in spans if span.name == "POST"), key=lambda span: span.begun_ns)


async def fails(hit: Hit) -> None:
    await hit.refuse(503)


async def never_begins(hit: Hit) -> None:
    await hit.head()
    await hit.wait_closed()


async def refuses_counts(hit: Hit) -> None:
    await hit.refuse(400, error={"message": "stream_options is not known", "param": "stream_options"})


async def test_each_try_is_a_span_below_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        async with upstream(fails) as first, upstream(refuses_counts, good) as second:
            model = remote(f"{first.url}|{second.url},priority=1,retries=0")
            async with local_node(model, traces=True) as node:
                answer = await node.client.post("/v1/chat/completions", json=CHAT, headers=caller())
                assert answer.status_code == 200
        hits = [*first.hits, *second.hits]
    failed, refused, answered = posts(receiver.spans)
    assert told(hits) == [failed.span_id, refused.span_id, answered.span_id]
    [claim] = [span for span in receiver.spans if span.name == "claim"]
    assert {span.parent_id for span in (failed, refused, answered)} == {claim.span_id}
    assert [span.attributes["http.response.status_code"] for span in (failed, refused, answered)] == [503, 400, 200]
    assert [span.attributes.get("error.type") for span in (failed, refused, answered)] == ["503", "400", None]
    assert [span.attributes.get("http.request.resend_count") for span in (failed, refused, answered)] == [None, 1, 2]
    assert {span.kind for span in (failed, refused, answered)} == {3}
    assert answered.attributes["url.full"] == f"{second.url}/chat/completions"
    assert (answered.attributes["server.address"], answered.ended_ns > answered.begun_ns) == ("127.0.0.1", True)


async def test_second_upstream_of_a_late_one_is_a_span(monkeypatch: pytest.MonkeyPatch) -> None:
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        async with upstream(never_begins) as late, upstream(good) as fast:
            model = remote(f"{late.url}|{fast.url},priority=1,hedge_s=0.05")
            async with local_node(model, traces=True) as node:
                await node.client.post("/v1/chat/completions", json=CHAT, headers=caller())
        first, second = told([*late.hits, *fast.hits])
    lost, won = posts(receiver.spans)
    assert (lost.span_id, won.span_id) == (first, second)
    assert (lost.attributes["llmactors.ended"], lost.failed) == ("cancelled", False)
    assert (won.attributes["llmactors.hedge"], "llmactors.ended" in won.attributes) == (True, False)


async def test_unrecorded_trace_is_told_as_unrecorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that an upstream, too, records nothing of the trace."""
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        async with upstream(good) as server, local_node(remote(server.url), traces=True) as node:
            await node.client.post("/v1/chat/completions", json=CHAT, headers=caller(sampled=False))
    assert re.fullmatch(rf"00-{TRACE_ID}-[0-9a-f]{{16}}-00", server.hits[0].headers["traceparent"])
    assert not receiver.spans


async def test_requests_for_vectors_are_spans_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        async with upstream(fails, numbers) as server, local_node(remote(server.url), traces=True) as node:
            body = {"model": "gpt", "input": ["hi"]}
            assert (await node.client.post("/v1/embeddings", json=body, headers=caller())).status_code == 200
    failed, answered = posts(receiver.spans)
    assert told(server.hits) == [failed.span_id, answered.span_id]
    assert (failed.attributes["error.type"], answered.failed) == ("503", False)


@pytest.mark.parametrize(("traces", "option"), [(False, ""), (True, ",traceparent=false")])
async def test_no_header_where_nobody_wants_one(monkeypatch: pytest.MonkeyPatch, traces: bool, option: str) -> None:
    """Also where the caller sends one: without `traces`, a node keeps nothing of a caller's trace."""
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        async with upstream(good) as server, local_node(remote(server.url + option), traces=traces) as node:
            answer = await node.client.post("/v1/chat/completions", json=CHAT, headers=caller())
            assert answer.status_code == 200
    assert not {"traceparent", "tracestate"} & {*server.hits[0].headers}
    assert len(posts(receiver.spans)) == int(traces)
